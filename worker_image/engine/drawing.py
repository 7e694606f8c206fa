"""Which nodes of a job draw random numbers that no seed fixes. Estimators are built for it: user code runs."""

import math
from collections.abc import Collection, Iterable, Sequence
from itertools import chain, product

from scipy.sparse import issparse

from flaregate_wire.definitions import Axis, EstimatorNode
from flaregate_wire.planning import Setting
from worker_image.draws import Shape, draws
from worker_image.engine.rows import Source
from worker_image.engine.session import Session

_MATRIX = 2
_SEED = "random_state"
TOGETHER = 500
"""Combinations of values of one node that are looked at."""


def drawing(session: Session, sources: Sequence[Source]) -> frozenset[str]:
    """The nodes that draw: they, or the folds that they are stacked by, with some values of their axes together."""
    definition = session.context.definition
    fed = {target for _, target in definition.pipeline.edges}
    shapes = () if definition.halving is not None else _shapes(sources)
    found = set()
    for node in definition.pipeline.nodes:
        if not isinstance(node, EstimatorNode):
            continue
        axes = [axis for axis in definition.axes if axis.node == node.name]
        known = () if node.name in fed else shapes
        if _folds_draw(session, node.name) or _some_draw(session, node, axes, known):
            found.add(node.name)
    return frozenset(found)


def _some_draw(session: Session, node: EstimatorNode, axes: Sequence[Axis], shapes: Collection[Shape]) -> bool:
    """Whether some values together let a node draw. Of too many, one by one, and what has a seed in any case."""
    own = [[(), *((Setting(axis.node, axis.param, value),) for value in axis.values)] for axis in axes]
    if math.prod(map(len, own)) <= TOGETHER:
        every: Iterable[tuple[Setting, ...]] = (tuple(chain.from_iterable(settings)) for settings in product(*own))
    elif node.signature is None or node.signature.draws or any(map(_may_unseed, axes)):
        return True
    else:
        every = chain.from_iterable(own)
    return any(_draws(session, node.name, settings, shapes) for settings in every)


def _may_unseed(axis: Axis) -> bool:
    """Whether a value may take a seed away: as such, or by an estimator or function in it."""
    return axis.param.rpartition("__")[2] == _SEED or any(isinstance(value, dict | list) for value in axis.values)


def _folds_draw(session: Session, name: str) -> bool:
    try:
        folds, _ = session.stacking(name)
        return draws(folds)
    except Exception:  # noqa: BLE001 - as below
        return True


def _shapes(sources: Sequence[Source]) -> tuple[Shape, ...]:
    """Of the training rows of each fold, and of all rows; nothing unless they are dense."""
    found: set[Shape] = set()
    for source in sources:
        shape: tuple[int, ...] = getattr(source.X, "shape", ())
        if len(shape) != _MATRIX or issparse(source.X):
            return ()
        found |= {(rows, shape[1]) for rows in (source.rows, *(len(train) for train, _ in source.folds))}
    return tuple(found)


def _draws(session: Session, name: str, settings: tuple[Setting, ...], shapes: Collection[Shape]) -> bool:
    try:
        return draws(session.estimator(name, settings), shapes)
    except Exception:  # noqa: BLE001 - the user's code may raise anything; what cannot be looked at is not shared
        return True
