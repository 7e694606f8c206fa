"""Which candidates the axes stand for: every combination, the union of several grids, or what was drawn from them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError
from itertools import product
from math import prod
from typing import Any

from flaregate.axes import Axes, MadeAxis, OwnAxes, Place, is_drawn, listed, own_axes, refused, split_key
from flaregate.values import Stage
from flaregate_wire.definitions import Axis, JoinNode, ModelNode, PipelineDefinition, Sample
from flaregate_wire.limits import CANDIDATES
from flaregate_wire.planning import Path, TooManyPaths, paths

_Grid = Mapping[Place, Any]
"""From an axis to its list of values or its distribution."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Axes on the wire, the candidates one by one where they are not every combination, and the user's own words."""

    axes: tuple[Axis, ...] = ()
    samples: tuple[Sample, ...] | None = None
    own: OwnAxes | None = None


@dataclass(frozen=True, slots=True)
class Drawing:
    """How candidates are drawn: scikit-learn's ParameterSampler with these arguments."""

    n_iter: int
    random_state: Any = None


def resolve(
    axes: Axes | None, pipeline: PipelineDefinition, stage: Stage, *, drawing: Drawing | None = None, bare: bool = False
) -> Candidates:
    """The candidates of a job.

    Args:
        axes: One grid, or a list of grids whose union is meant.
        pipeline: The nodes that its keys name.
        stage: Takes in what a value needs beside the JSON.
        drawing: Draws candidates instead of taking all; without it a distribution is refused.
        bare: Whether a parameter without its node is a key.
    """
    made: dict[Place, MadeAxis] = {}
    grids = [_grid(grid, pipeline, stage, made, bare=bare) for grid in _listed(axes)]
    if drawing is None:
        _refuse_drawn(grids, made)
    if drawing is None and len(grids) == 1:
        for place, values in grids[0].items():
            for value in values:
                made[place].add(value)
        return Candidates(tuple(axis.axis() for axis in made.values()), None, own_axes(made))
    if not grids and drawing is None:
        return Candidates()
    _refuse_lost(made, pipeline)
    if drawing is None:
        _refuse_many(pipeline, grids)
    ways = tuple((number, grid) for number, path in enumerate(_ways(pipeline)) for grid in _touching(path, grids))
    chosen = _every(ways) if drawing is None else _drawn(ways, drawing)
    samples = [(number, {place: made[place].place(value) for place, value in settings}) for number, settings in chosen]
    used = {place: axis for place, axis in made.items() if axis.wire}
    return Candidates(
        tuple(axis.axis() for axis in used.values()),
        tuple((number, *(places.get(place) for place in used)) for number, places in samples),
        own_axes(used),
    )


def draws(axes: Axes | None) -> bool:
    """Whether any axis is a distribution."""
    return any(is_drawn(given) for grid in _listed(axes) for given in grid.values())


def _listed(axes: Axes | None) -> list[Mapping[Any, Any]]:
    grids: list[Any] = [axes] if isinstance(axes, Mapping) else list(axes or ())
    wrong = next((grid for grid in grids if not isinstance(grid, Mapping)), None)
    if wrong is not None:
        raise refused(f"axes is a dict or a list of dicts; here is a {type(wrong).__name__}")
    return grids


def _grid(
    grid: Mapping[Any, Any], pipeline: PipelineDefinition, stage: Stage, made: dict[Place, MadeAxis], *, bare: bool
) -> _Grid:
    found: dict[Place, Any] = {}
    for key, given in grid.items():
        place = split_key(key, pipeline, bare=bare)
        if place in found:
            raise refused(f"two axes are on {place[0]!r}, {place[1]!r}; write their values into one", "duplicate_axis")
        found[place] = given if is_drawn(given) else listed(key, given)
        made.setdefault(place, MadeAxis(*place, key, stage))
    return found


def _ways(pipeline: PipelineDefinition) -> tuple[Path, ...]:
    """The paths; none of a pipeline that breaks a rule, which is refused for that."""
    try:
        return paths(pipeline)
    except (CycleError, TooManyPaths, KeyError):
        return ()


def _touching(path: Path, grids: Iterable[_Grid]) -> Iterator[_Grid]:
    """What of each grid is on a path, by node and then by parameter; a path that none touches is taken as it is."""
    order = {name: number for number, name in enumerate(path.nodes)}
    found = False
    for grid in grids:
        on_path = sorted((place for place in grid if place[0] in order), key=lambda place: (order[place[0]], place[1]))
        if on_path or not grid:
            found = True
            yield {place: grid[place] for place in on_path}
    if not found:
        yield {}


def _refuse_drawn(grids: Iterable[_Grid], made: Mapping[Place, MadeAxis]) -> None:
    for place, given in ((place, given) for grid in grids for place, given in grid.items()):
        if is_drawn(given):
            key = made[place].key
            raise refused(f"the axis {key!r} is a distribution; give strategy='random' to draw from it", "drawn")


def _refuse_lost(made: Mapping[Place, MadeAxis], pipeline: PipelineDefinition) -> None:
    """Refuse an axis on no path: no candidate that is listed would show it."""
    having = {node.name for node in pipeline.nodes if not isinstance(node, JoinNode | ModelNode)}
    for (node, _), axis in made.items():
        if node not in having:
            message = f"the axis {axis.key!r} is on no path: {node!r} is no node with parameters"
            raise refused(message, "axis_on_no_path")


def _refuse_many(pipeline: PipelineDefinition, grids: Sequence[_Grid]) -> None:
    """Refuse what would take long to list, before it is listed."""
    on_paths = (grid for path in _ways(pipeline) for grid in _touching(path, grids))
    count = sum(prod(map(len, grid.values())) for grid in on_paths)
    if count > CANDIDATES:
        raise refused(f"{count} candidates; the limit is {CANDIDATES}", "too_many_candidates")


def _every(ways: Iterable[tuple[int, _Grid]]) -> Iterator[tuple[int, Any]]:
    for number, grid in ways:
        for values in product(*grid.values()):
            yield number, zip(grid, values, strict=True)


def _drawn(ways: tuple[tuple[int, _Grid], ...], drawing: Drawing) -> Iterator[tuple[int, Any]]:
    """What ParameterSampler draws from one dict a path; of one path, exactly what RandomizedSearchCV draws.

    The keys sort as `node__parameter` does. The number of the path goes along under a key that sorts first and has one
    value, which takes no random number.
    """
    from sklearn.model_selection import ParameterSampler  # noqa: PLC0415 - only where something is drawn

    lists = not any(is_drawn(given) for _, grid in ways for given in grid.values())
    spaces = [
        {_WAY: [number] if lists else _Always(number)}
        | {(f"{node}__{param}", node, param): given for (node, param), given in grid.items()}
        for number, grid in ways
    ]
    for drawn in ParameterSampler(spaces, drawing.n_iter, random_state=drawing.random_state):
        yield drawn.pop(_WAY), [(key[1:], value) for key, value in drawn.items()]


_WAY = ("", "", "")


@dataclass(frozen=True, slots=True)
class _Always:
    """A distribution of one value."""

    value: int

    def rvs(self, random_state: Any) -> int:
        """The value; nothing is drawn."""
        return self.value
