"""scikit-learn's scorer objects as `scoring` of a job, where a job's own way of scoring gives the same."""

from typing import Any

from sklearn.metrics._scorer import _SCORERS, _BaseScorer, _MultimetricScorer, _PassthroughScorer

from flaregate.values import same


class Unsaid(Exception):
    """No `scoring` of a job says this scorer."""


def scoring_of(scorer: Any) -> Any:
    """`scoring` for a job; raises Unsaid for a callable of the user's own, which sees the whole estimator."""
    if not isinstance(scorer, _MultimetricScorer):
        return _one(scorer)
    said = {name: _one(item) for name, item in by_name(scorer).items()}
    if list(said.values()) == [None]:
        return None
    if None in said.values():
        raise Unsaid
    return said


def by_name(scorer: Any) -> dict[str, Any]:
    """The scorers that one object holds; none where it is a single one."""
    found: dict[str, Any] = scorer._scorers if isinstance(scorer, _MultimetricScorer) else {}  # noqa: SLF001 - its own
    return found


def _one(scorer: Any) -> Any:
    if isinstance(scorer, _PassthroughScorer):
        return None
    if not isinstance(scorer, _BaseScorer):
        raise Unsaid
    return next((name for name, known in _SCORERS.items() if _is(known, scorer)), scorer)


def _is(known: Any, scorer: Any) -> bool:
    return type(known) is type(scorer) and same(vars(known), vars(scorer))
