"""What a user sends: the definition of a pipeline and of a job. Loading one imports nothing and unpickles nothing."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    JsonValue,
    StrictInt,
    StringConstraints,
    Tag,
    model_validator,
)

from flaregate_wire.model import Sha256, UserModel
from flaregate_wire.references import Reference
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
    code: str | None = Field(
        default=None,
        description="What the code does: `scikit-learn==1.9.1`, or the digest of a payload's code. Part of the node's "
        "digest; a payload without it counts by its bytes.",
    )
    only_here: tuple[str, ...] = Field(
        default=(), description="Modules that it imports and only the submitting machine has: for the local launcher."
    )

    @model_validator(mode="after")
    def _one_source(self) -> "Code":
        if (self.import_ is None) == (self.payload is None):
            msg = "give exactly one of 'import' (module:Name) and 'payload' (sha256:…)"
            raise ValueError(msg)
        return self


class Needs(UserModel):
    """What one task of a node needs, and how often it is tried. None of it changes what the node gives."""

    num_cpus: float | None = Field(default=None, gt=0, le=128, description="vCPU of one task; 1 without it.")
    num_gpus: float | None = Field(default=None, ge=0, description="GPUs of one task.")
    memory: int | None = Field(default=None, gt=0, description="Bytes of one task, kept free where it is placed.")
    timeout: float | None = Field(default=None, gt=0, description="Seconds of one task; then its process is ended.")
    retries: int = Field(
        default=0, ge=0, le=10, description="New tries of a task that killed its process or timed out."
    )


class _Runnable(Code):
    name: Name
    signature: Signature | None = None
    needs: Needs = Needs()
    cache: bool = Field(default=True, description="Whether other jobs may use what it gave.")


class EstimatorNode(_Runnable):
    """Anything with the scikit-learn contract."""

    kind: Literal["estimator"]
    stack_cv: StrictInt | Code | Literal["prefit"] | None = Field(
        default=None,
        description="In the middle: folds of the out-of-fold predictions; `prefit`: the object as it is.",
    )
    stack_method: Literal["auto", "predict_proba", "decision_function", "predict"] = "auto"


class FunctionNode(_Runnable):
    """Any callable: `f(X, **params)` gives the new X; in a sweep it is called with keywords alone."""

    kind: Literal["function"]


class ModelNode(UserModel):
    """A fitted pipeline that an earlier job left, or that the SDK staged; the only node of its pipeline."""

    name: Name
    kind: Literal["model"]
    source: "Blob | Artifact"
    code: str | None = Field(default=None, description="What the modules do that its code imports when it runs.")


class JoinNode(UserModel):
    """Waits for all its predecessors and combines what they made of the same source object."""

    name: Name
    kind: Literal["join"]
    of: Annotated[tuple[Name, ...], Field(min_length=2)] = Field(description="Predecessors, in column order.")
    combine: Code | None = Field(default=None, description="`combine(parts)`; columns are concatenated without it.")


class Blob(UserModel):
    """Staged bytes."""

    blob: Sha256
    media_type: str
    size: int | None = Field(default=None, ge=0, description="Bytes.")
    shape: tuple[int, ...] | None = None


Package = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*==\S+$", max_length=200)]
"""`name==version`, the name as PEP 503 compares names."""


class Requirements(Blob):
    """A staged lock file: a line for each package, `name==version` and the sums of its files. It names no index."""

    packages: tuple[Package, ...] = Field(description="What it locks, `name==version` each.")

    def versions(self) -> dict[str, str]:
        """By name, the version of each package."""
        return {name: version for name, _, version in (package.partition("==") for package in self.packages)}


class Artifact(UserModel):
    """What an earlier job left; the gateway resolves it to its sum when the job is submitted."""

    artifact: Annotated[str, StringConstraints(pattern=r"^job:[\w-]+/.+$")] = Field(description="`job:ID/name`")


Node = Annotated[EstimatorNode | FunctionNode | JoinNode | ModelNode, Field(discriminator="kind")]


class PipelineDefinition(UserModel):
    """A DAG of named nodes. Edges into a join follow from its `of`."""

    name: Name = "pipeline"
    nodes: Annotated[tuple[Node, ...], Field(min_length=1)]
    edges: tuple[tuple[Name, Name], ...] = ()

    def blobs(self) -> Iterator[str]:
        """Every staged blob that the nodes refer to."""
        for node in self.nodes:
            if isinstance(node, ModelNode):
                if isinstance(node.source, Blob):
                    yield node.source.blob
                continue
            code = node.combine if isinstance(node, JoinNode) else node
            if code is not None:
                yield from code_blobs(code)
            if isinstance(node, EstimatorNode) and isinstance(node.stack_cv, Code):
                yield from code_blobs(node.stack_cv)


class Dataset(UserModel):
    """A part of what a loader in the worker's environment gives."""

    dataset: ImportPath
    params: dict[str, Value] = Field(default_factory=dict)
    part: Name = Field(default="data", description="Attribute or key of what the loader gives.")


def _kind_of_input(given: object) -> str | None:
    for kind in ("dataset", "blob", "artifact", "reference"):
        if hasattr(given, kind) or (isinstance(given, dict) and kind in given):
            return kind
    return None


Input = Annotated[
    Annotated[Dataset, Tag("dataset")]
    | Annotated[Blob, Tag("blob")]
    | Annotated[Artifact, Tag("artifact")]
    | Annotated[Reference, Tag("reference")],
    Discriminator(
        _kind_of_input,
        custom_error_type="input_kind",
        custom_error_message="an input is {'dataset': 'module:loader', 'part': …}, {'blob': sha256, 'media_type': …}, "
        "{'artifact': 'job:ID/name'} or {'reference': 's3://bucket/key'}",
    ),
]


class SourceObject(UserModel):
    """One of several source objects that go through the same DAG."""

    name: Name
    X: Input
    y: Input | None = None


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
    PREDICT = "predict"
    PREDICT_PROBA = "predict_proba"
    TRANSFORM = "transform"
    SCORE = "score"
    MAP = "map"
    SWEEP = "sweep"


APPLIES = frozenset({Action.PREDICT, Action.PREDICT_PROBA, Action.TRANSFORM, Action.SCORE})
"""What is done with a fitted pipeline, once for each source object."""
FOLDED = frozenset({Action.CROSS_VALIDATE, Action.SEARCH})
"""What cuts the rows into folds."""
FITS = FOLDED | {Action.FIT}
"""What fits estimators."""


Scorer = str | Code


def _scorer_first(given: object) -> object:
    """Where an object can be both, it is a scorer and not several by name: no scorer's name has a colon."""
    places = [str(given.get(key)) for key in ("import", "payload")] if isinstance(given, dict) else []
    return Code.model_validate(given) if any(":" in place for place in places) else given


Scoring = Annotated[Scorer | tuple[str, ...] | dict[str, Scorer] | None, BeforeValidator(_scorer_first)]


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


KEEP_SECONDS = 315_360_000
"""Ten years."""
Keep = Annotated[float, Field(gt=0, le=KEEP_SECONDS)] | Literal["forever"]

MaxCost = Annotated[str, StringConstraints(pattern=r"^\d{1,9}(\.\d{1,6})? [A-Z]{3}$")]
"""A decimal amount and a currency: `0.50 USD`."""


class Limits(UserModel):
    """What a job may take at most."""

    timeout: float = Field(default=3600, gt=0, le=86_400, description="Seconds from the first launch.")
    max_cost: MaxCost | None = None
    retries: int = Field(default=1, ge=0, le=5, description="New attempts after faults of the infrastructure.")


def _nan() -> JsonValue:
    return {"$float": "nan"}


class Halving(UserModel):
    """How successive halving goes, with scikit-learn's names: HalvingGridSearchCV."""

    factor: float = Field(default=3, gt=1)
    resource: str = Field(default="n_samples", description="`n_samples`, or `node__param` of a number to grow.")
    resource_node: Name | None = Field(default=None, description="The node, where the resource is a parameter.")
    resource_param: str | None = None
    min_resources: StrictInt | Literal["exhaust", "smallest"] = "exhaust"
    max_resources: StrictInt | Literal["auto"] = "auto"
    aggressive_elimination: bool = False
    random_state: StrictInt | None = None


Sample = tuple[int | None, ...]
"""A candidate by place: the number of its path, then for each of the job's axes the number of its value; None where
the axis is left at the node's own value."""


class JobDefinition(UserModel):
    """A pipeline, what to do with it, its inputs, and what it may use."""

    pipeline: PipelineDefinition
    action: Action = Action.FIT
    project: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")] = Field(
        default="default", description="With the tenant, the trust scope within which results are shared."
    )
    inputs: dict[Literal["X", "y", "groups", "sample_weight"], Input] = Field(default_factory=dict)
    objects: tuple[SourceObject, ...] = Field(default=(), description="Several sources, instead of inputs X and y.")
    fit_params: dict[Name, dict[str, Value]] = Field(
        default_factory=dict, description="By node: what its fit gets; arrays of one entry a row are cut to the fold."
    )
    axes: tuple[Axis, ...] = ()
    samples: tuple[Sample, ...] | None = Field(
        default=None, description="The candidates one by one, where they are not every combination of the axes."
    )
    cv: CrossValidation | None = None
    scoring: Scoring = None
    refit: bool | str | Code = True
    error_score: Value = Field(default_factory=_nan)
    return_train_score: bool = False
    strategy: Literal["grid", "random", "halving"] = "grid"
    halving: Halving | None = Field(default=None, description="With strategy `halving`.")
    fail_fast: bool = Field(default=False, description="Whether the first failed candidate ends the job.")
    unseeded: bool = Field(default=False, description="Whether results of unseeded draws serve other jobs too.")
    method: str | None = Field(default=None, description="`map` of a fitted pipeline: which of its methods.")
    blocks: int | None = Field(default=None, ge=1, description="`map`: blocks of rows; None adapts their size.")
    best: Annotated[str, StringConstraints(pattern=r"^(max|min):.+$")] | None = Field(
        default=None, description="`sweep`: the metric that chooses, `max:accuracy`."
    )
    warm: float = Field(default=0, ge=0, le=3600, description="Seconds that the head may wait for the next job.")
    keep: Keep | None = Field(
        default=None,
        description="Seconds from its end until the job is removed with all that it left, or `forever`; None: what the "
        "gateway is set to.",
    )
    resources: Resources = Resources()
    limits: Limits = Limits()
    cache: Literal["on", "off", "read"] = "on"
    config: dict[str, Value] = Field(default_factory=dict, description="scikit-learn's configuration at submission.")
    labels: dict[
        Annotated[str, StringConstraints(min_length=1, max_length=63)],
        Annotated[str, StringConstraints(max_length=255)],
    ] = Field(default_factory=dict, max_length=64)
    environment: dict[str, str] = Field(default_factory=dict, description="Versions the payloads need, by name.")
    code: Blob | None = Field(default=None, description="A zip of the user's own modules, which every task can import.")
    requirements: Requirements | None = Field(default=None, description="Packages that the workers are to have beside.")

    def blobs(self) -> frozenset[str]:
        """Every staged blob that the job refers to."""
        found = {*self.pipeline.blobs(), *self.own_blobs()}
        for item in self.every_input():
            found.update(input_blobs(item))
        for params in self.fit_params.values():
            found.update(blob for value in params.values() for blob in blobs_of(value))
        for axis in self.axes:
            found.update(blob for value in axis.values for blob in blobs_of(value))
        found.update(blob for value in self.config.values() for blob in blobs_of(value))
        if isinstance(self.cv, Splits):
            found.add(self.cv.blob)
        scorers = tuple(self.scoring.values()) if isinstance(self.scoring, dict) else (self.scoring,)
        for code in (self.cv, self.refit, *scorers):
            if isinstance(code, Code):
                found.update(code_blobs(code))
        return frozenset(found)

    def own_blobs(self) -> tuple[str, ...]:
        """The staged blobs that each container needs before it can run a task."""
        return tuple(one.blob for one in (self.code, self.requirements) if one is not None)

    def every_input(self) -> Iterator[Dataset | Blob | Artifact | Reference]:
        """The inputs, those of all source objects too."""
        yield from self.inputs.values()
        for one in self.objects:
            yield one.X
            if one.y is not None:
                yield one.y


def input_blobs(item: "Dataset | Blob | Artifact | Reference") -> Iterator[str]:
    """Every staged blob that an input refers to."""
    if isinstance(item, Blob):
        yield item.blob
    elif isinstance(item, Dataset):
        for value in item.params.values():
            yield from blobs_of(value)


def code_blobs(code: Code) -> Iterator[str]:
    """Every staged blob that a piece of code refers to."""
    if code.payload is not None:
        yield code.payload
    for value in code.params.values():
        yield from blobs_of(value)
