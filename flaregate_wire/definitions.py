"""What a user sends: the definition of a pipeline and of a job. Loading one imports nothing and unpickles nothing."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, JsonValue, StrictInt, StringConstraints, Tag, model_validator

from flaregate_wire.model import Sha256, UserModel
from flaregate_wire.values import Value, blobs_of

ImportPath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")]
"""`package.module:Name`."""


def _printable(name: str) -> str:
    if not name.isprintable() or name != name.strip():
        msg = "a name has no control characters and no space at its ends"
        raise ValueError(msg)
    return name


Name = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(_printable)]
"""A name of a node, axis or job: 1 to 100 printable characters, `__` allowed."""


class Ability(StrEnum):
    """What a node's object can do once fitted."""

    TRANSFORM = "transform"
    PREDICT = "predict"
    PREDICT_PROBA = "predict_proba"
    DECISION_FUNCTION = "decision_function"
    SCORE = "score"


class Signature(UserModel):
    """What the planner must know of a node without importing it; written by the SDK or filled from the catalogue."""

    params: tuple[str, ...] = Field(description="Every settable parameter, nested ones too (`lr__C`).")
    abilities: tuple[Ability, ...] = ()
    type: Literal["classifier", "regressor", "clusterer", "other"] = "other"
    draws: bool = Field(default=False, description="Whether fitting draws random numbers that no seed fixes.")
    open: bool = Field(default=False, description="Whether any further parameter is accepted (`**kwargs`).")


class Code(UserModel):
    """Something to call or construct: by import path with parameters, or by a staged cloudpickle payload."""

    import_: ImportPath | None = Field(default=None, alias="import")
    payload: Sha256 | None = None
    params: dict[str, Value] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_source(self) -> "Code":
        if (self.import_ is None) == (self.payload is None):
            msg = "give exactly one of 'import' (module:Name) and 'payload' (sha256:…)"
            raise ValueError(msg)
        return self


class _Runnable(Code):
    name: Name
    signature: Signature | None = None
    code: str | None = Field(
        default=None, description="Digest of what the code does, e.g. `scikit-learn==1.9.1`; part of the node's digest."
    )


class EstimatorNode(_Runnable):
    """Anything with the scikit-learn contract."""

    kind: Literal["estimator"]


class FunctionNode(_Runnable):
    """Any callable `f(X, **params)` that gives the new X."""

    kind: Literal["function"]


class JoinNode(UserModel):
    """Waits for all its predecessors and combines what they made of the same source object."""

    name: Name
    kind: Literal["join"]
    of: Annotated[tuple[Name, ...], Field(min_length=2)] = Field(description="Predecessors, in column order.")
    combine: Code | None = Field(default=None, description="`combine(parts)`; columns are concatenated without it.")


Node = Annotated[EstimatorNode | FunctionNode | JoinNode, Field(discriminator="kind")]


class PipelineDefinition(UserModel):
    """A DAG of named nodes. Edges into a join follow from its `of`."""

    name: Name = "pipeline"
    nodes: Annotated[tuple[Node, ...], Field(min_length=1)]
    edges: tuple[tuple[Name, Name], ...] = ()

    def blobs(self) -> Iterator[str]:
        """Every staged blob that the nodes refer to."""
        for node in self.nodes:
            code = node.combine if isinstance(node, JoinNode) else node
            if code is not None:
                yield from code_blobs(code)


class Dataset(UserModel):
    """A part of what a loader in the worker's environment gives."""

    dataset: ImportPath
    params: dict[str, Value] = Field(default_factory=dict)
    part: Name = Field(default="data", description="Attribute or key of what the loader gives.")


class Blob(UserModel):
    """Staged bytes."""

    blob: Sha256
    media_type: str
    size: int | None = Field(default=None, ge=0, description="Bytes.")
    shape: tuple[int, ...] | None = None


def _kind_of_input(given: object) -> str | None:
    for kind in ("dataset", "blob"):
        if hasattr(given, kind) or (isinstance(given, dict) and kind in given):
            return kind
    return None


Input = Annotated[
    Annotated[Dataset, Tag("dataset")] | Annotated[Blob, Tag("blob")],
    Discriminator(
        _kind_of_input,
        custom_error_type="input_kind",
        custom_error_message="an input is {'dataset': 'module:loader', 'part': …} or {'blob': sha256, 'media_type': …}",
    ),
]


class Axis(UserModel):
    """A named list of values that multiplies the work."""

    node: Name
    param: str
    values: Annotated[tuple[Value, ...], Field(min_length=1)]
    key: str | None = Field(default=None, description="The user's own key, where it is not `node__param`.")


class Splits(UserModel):
    """Folds that the SDK resolved: staged index arrays."""

    blob: Sha256
    folds: int = Field(ge=1)


def _kind_of_cv(given: object) -> str | None:
    if isinstance(given, int) and not isinstance(given, bool):
        return "count"
    if isinstance(given, Splits) or (isinstance(given, dict) and "blob" in given):
        return "splits"
    return "code" if isinstance(given, Code | dict) else None


CrossValidation = Annotated[
    Annotated[StrictInt, Tag("count")] | Annotated[Code, Tag("code")] | Annotated[Splits, Tag("splits")],
    Discriminator(
        _kind_of_cv,
        custom_error_type="cv_kind",
        custom_error_message="cv is a number of folds, a splitter {'import': …, 'params': …} or staged splits",
    ),
]


class Action(StrEnum):
    """What a job does with its pipeline."""

    FIT = "fit"
    CROSS_VALIDATE = "cross_validate"
    SEARCH = "search"


Scorer = str | Code
Scoring = Scorer | tuple[str, ...] | dict[str, Scorer] | None


class Resources(UserModel):
    """What each container gets, and how many there are. None: the gateway chooses and says why."""

    workers: int | None = Field(default=None, ge=0, le=1000)
    min_workers: int = Field(default=0, ge=0, description="Workers to wait for before the first task.")
    cpus: float | None = Field(default=None, gt=0, le=128, description="vCPU of the head and of each worker.")
    memory: int | None = Field(default=None, ge=250_000_000, description="Bytes of the head and of each worker.")
    gpus: int = Field(default=0, ge=0)
    topology: Literal["auto", "single", "cluster"] = "auto"

    @model_validator(mode="after")
    def _enough(self) -> "Resources":
        if self.workers is not None and self.min_workers > self.workers:
            msg = f"min_workers ({self.min_workers}) is more than workers ({self.workers})"
            raise ValueError(msg)
        if self.topology == "single" and self.workers:
            msg = "topology 'single' has no workers; leave workers out or choose 'cluster'"
            raise ValueError(msg)
        return self


MaxCost = Annotated[str, StringConstraints(pattern=r"^\d{1,9}(\.\d{1,6})? [A-Z]{3}$")]
"""A decimal amount and a currency: `0.50 USD`."""


class Limits(UserModel):
    """What a job may take at most."""

    timeout: float = Field(default=3600, gt=0, le=86_400, description="Seconds from the first launch.")
    max_cost: MaxCost | None = None
    retries: int = Field(default=0, ge=0, le=5, description="New attempts after faults of the infrastructure.")


def _nan() -> JsonValue:
    return {"$float": "nan"}


class JobDefinition(UserModel):
    """A pipeline, what to do with it, its inputs, and what it may use."""

    pipeline: PipelineDefinition
    action: Action = Action.FIT
    project: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")] = Field(
        default="default", description="With the tenant, the trust scope within which results are shared."
    )
    inputs: dict[Literal["X", "y", "groups"], Input]
    axes: tuple[Axis, ...] = ()
    cv: CrossValidation | None = None
    scoring: Scoring = None
    refit: bool | str = True
    error_score: Value = Field(default_factory=_nan)
    return_train_score: bool = False
    strategy: Literal["grid"] = "grid"
    resources: Resources = Resources()
    limits: Limits = Limits()
    cache: Literal["on", "off", "read"] = "on"
    config: dict[str, Value] = Field(default_factory=dict, description="scikit-learn's configuration at submission.")
    labels: dict[
        Annotated[str, StringConstraints(min_length=1, max_length=63)],
        Annotated[str, StringConstraints(max_length=255)],
    ] = Field(default_factory=dict, max_length=64)
    environment: dict[str, str] = Field(default_factory=dict, description="Versions the payloads need, by name.")

    def blobs(self) -> frozenset[str]:
        """Every staged blob that the job refers to."""
        found = set(self.pipeline.blobs())
        found.update(item.blob for item in self.inputs.values() if isinstance(item, Blob))
        for item in self.inputs.values():
            if isinstance(item, Dataset):
                found.update(blob for value in item.params.values() for blob in blobs_of(value))
        for axis in self.axes:
            found.update(blob for value in axis.values for blob in blobs_of(value))
        found.update(blob for value in self.config.values() for blob in blobs_of(value))
        if isinstance(self.cv, Splits):
            found.add(self.cv.blob)
        scorers = tuple(self.scoring.values()) if isinstance(self.scoring, dict) else (self.scoring,)
        for code in (self.cv, *scorers):
            if isinstance(code, Code):
                found.update(code_blobs(code))
        return frozenset(found)


def code_blobs(code: Code) -> Iterator[str]:
    """Every staged blob that a piece of code refers to."""
    if code.payload is not None:
        yield code.payload
    for value in code.params.values():
        yield from blobs_of(value)
