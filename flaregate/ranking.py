"""Which outcome is the best: by mean test scores, by a sweep's metric, or the only one. Training scores never rank."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeGuard, TypeVar

from flaregate.errors import AmbiguousBest
from flaregate_wire.definitions import Action
from flaregate_wire.jobs import JobView


class Ranked(Protocol):
    """What ranking needs of an outcome."""

    @property
    def candidate(self) -> int: ...
    @property
    def mean(self) -> float | None: ...
    @property
    def metrics(self) -> dict[str, Any] | None: ...
    @property
    def iteration(self) -> int | None: ...
    @property
    def error(self) -> Any: ...


R = TypeVar("R", bound=Ranked)
Choose = Callable[[Sequence[Any]], Any]
"""Gives the best of some outcomes, the first of equals; None where none can be ranked."""


def best(outcomes: Sequence[R], job: JobView) -> R:
    """The best outcome of a job; raises AmbiguousBest where nothing ranks them."""
    match job.action:
        case Action.SEARCH | Action.CROSS_VALIDATE:
            return _by_mean(outcomes, job)
        case Action.SWEEP:
            return _by_metric(outcomes, job)
        case _:
            return _only(outcomes, job)


def numbered(outcomes: Sequence[R], candidate: int | None) -> R | None:
    """The outcome of a candidate; of several source objects the one with the best mean."""
    own = [outcome for outcome in outcomes if outcome.candidate == candidate]
    return max(own, key=lambda outcome: outcome.mean if _is_number(outcome.mean) else -math.inf, default=None)


def chooser(job: JobView) -> Choose | None:
    """How the sweep's `best`, `max:metric` or `min:metric`, chooses; None where it has none."""
    wish = job.definition.best if job.definition else None
    if wish is None:
        return None
    direction, _, metric = wish.partition(":")
    sign = 1 if direction == "max" else -1

    def choose(outcomes: Sequence[Any]) -> Any:
        known = [outcome for outcome in outcomes if _is_number((outcome.metrics or {}).get(metric))]
        return max(known, key=lambda outcome: sign * outcome.metrics[metric], default=None)

    return choose


def _is_number(value: Any) -> TypeGuard[float]:
    return value is not None and not math.isnan(value)


def _by_mean(outcomes: Sequence[R], job: JobView) -> R:
    last = max((outcome.iteration or 0 for outcome in outcomes), default=0)
    ranked = [outcome for outcome in outcomes if _is_number(outcome.mean) and (outcome.iteration or 0) == last]
    named = numbered(outcomes, job.result.best if job.result else None)
    found = named or max(ranked, key=lambda outcome: outcome.mean or 0.0, default=None)
    if found is None:
        raise AmbiguousBest("no candidate has a mean test score; with several scorers, name one with refit=")
    return found


def _by_metric(outcomes: Sequence[R], job: JobView) -> R:
    choose = chooser(job)
    if choose is None:
        raise AmbiguousBest("nothing ranks the cells of a sweep; name a metric, best='max:accuracy' or 'min:loss'")
    found: R | None = choose(outcomes)
    if found is None:
        raise AmbiguousBest(f"no cell returned the metric of best={job.definition and job.definition.best!r}")
    return found


def _only(outcomes: Sequence[R], job: JobView) -> R:
    whole = [outcome for outcome in outcomes if outcome.error is None]
    if len(whole) == 1:
        return whole[0]
    if job.action is not Action.FIT:
        raise AmbiguousBest(f"nothing ranks the {len(whole)} outcomes of {job.action.value!r}; see result.outcomes")
    raise AmbiguousBest(
        f"{len(whole)} pipelines were fitted, and training scores do not rank models; choose one of "
        "result.outcomes, or compare them with action='cross_validate'"
    )
