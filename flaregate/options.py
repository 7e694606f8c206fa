"""The arguments of `submit`, `map`, `sweep` and `plan` beside what the job is about, with their defaults."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import nan
from typing import Any, Literal

from flaregate.axes import Axes
from flaregate.requirements import Lock, Requirements


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """What a job does, with which data, and what it may use.

    Args:
        action: `fit`, `cross_validate`, `search`, `predict`, `predict_proba`, `transform`, `score`, `map` or `sweep`;
            by default `search` where there are axes, else `fit`.
        X: Rows; arrays, sparse matrices, frames, lists, `dataset(…)` or `ref(…)`.
        y: Targets, one a row.
        objects: Several sources instead of X and y: from a name to (X, y), or to X alone.
        groups: Groups for splitters that need them, one a row.
        sample_weight: Weights for the fit of the last node of each path, one a row; cut to the fold.
        fit_params: From a node to what its fit gets: {'node': {'name': value}}; arrays of one entry a row are cut.
        axes: From `node__parameter` or (node, parameter) to a list of values, or with strategy `random` to a
            distribution; a list of such dicts is the union of their grids. In a sweep a parameter alone is a key too.
        cv: None (5 folds), a number, a splitter, or an iterable of (train, test) index arrays.
        scoring: None (the last node's score), a name, a callable, a list of names, or a dict.
        refit: Whether a search fits the best candidate on all rows; with several scorers the name of one; or a
            callable that gets the table of results and gives the number of the best.
        strategy: How candidates come from the axes: `grid` all, `random` n_iter drawn, `halving` in rounds.
        n_iter: Candidates that `random` draws.
        random_state: Seeds what is drawn here, as in scikit-learn.
        factor: Of `halving`: one of so many candidates goes on, with so many times the resource.
        resource: Of `halving`: `n_samples`, or the key of a parameter that grows, such as `forest__n_estimators`.
        min_resources: Of `halving`: what the first round has: a number, `exhaust` or `smallest`.
        max_resources: Of `halving`: what the last round may have: a number or `auto`.
        aggressive_elimination: Of `halving`: repeats the first round until few enough candidates are left.
        return_train_score: Whether training folds are scored too.
        error_score: The score of a failed fold, or `raise`.
        fail_fast: Whether the first failed candidate ends the job.
        blocks: Of `map`: the number of blocks of rows; None adapts their size.
        method: Of `map` of a fitted pipeline: which of its methods.
        best: Of `sweep`: the metric that chooses, `max:accuracy` or `min:loss`.
        cache: `on`, `off` or `read`.
        unseeded: Whether results of unseeded draws may serve other jobs too.
        workers: Containers beside the head; None lets the gateway choose.
        min_workers: Workers to wait for before the first task.
        cpus: vCPU of each container.
        memory: Bytes of each container.
        gpus: GPUs of each container.
        topology: `auto`, `single` (head alone) or `cluster`.
        timeout: Seconds from the first launch.
        max_cost: Decimal amount and currency, `0.50 USD`.
        retries: New attempts after faults of the infrastructure.
        warm: Seconds that the head may wait for the next job; by default the client's.
        labels: Free words to find the job by.
        project: With the tenant, the scope within which results are shared.
        requirements: Packages for the workers beside what they have: a list as pip takes it, which uv locks here; or
            the path of a lock file with sums.
        keep: Seconds from its end until the job is removed with all that it left, or `forever`; by default what the
            gateway is set to.
    """

    action: str | None = None
    X: Any = None
    y: Any = None
    objects: Mapping[str, Any] | None = None
    groups: Any = None
    sample_weight: Any = None
    fit_params: Mapping[str, Mapping[str, Any]] | None = None
    axes: Axes | None = None
    cv: Any = None
    scoring: Any = None
    refit: bool | str | Callable[[Any], Any] = True
    strategy: Literal["grid", "random", "halving"] = "grid"
    n_iter: int = 10
    random_state: Any = None
    factor: float = 3
    resource: Any = "n_samples"
    min_resources: int | Literal["exhaust", "smallest"] = "exhaust"
    max_resources: int | Literal["auto"] = "auto"
    aggressive_elimination: bool = False
    return_train_score: bool = False
    error_score: Any = nan
    fail_fast: bool = False
    blocks: int | None = None
    method: str | None = None
    best: str | None = None
    cache: Literal["on", "off", "read"] = "on"
    unseeded: bool = False
    workers: int | None = None
    min_workers: int = 0
    cpus: float | None = None
    memory: int | None = None
    gpus: int = 0
    topology: Literal["auto", "single", "cluster"] = "auto"
    timeout: float | None = None
    max_cost: str | None = None
    retries: int = 1
    warm: float = 0
    labels: Mapping[str, str] | None = None
    project: str = "default"
    requirements: Requirements | Lock | None = None
    keep: float | Literal["forever"] | None = None

    @property
    def acts(self) -> str:
        """The action, chosen where it is not given."""
        return self.action or ("search" if self.axes else "fit")
