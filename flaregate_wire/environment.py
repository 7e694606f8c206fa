"""The distributions whose versions decide whether a payload can run in a container: its environment."""

DISTRIBUTIONS = (
    "cloudpickle",
    "joblib",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "ray",
    "scikit-learn",
    "scipy",
    "torch",
    "transformers",
)
"""Of these an environment names the ones that are installed; with `python` they are its fingerprint."""
