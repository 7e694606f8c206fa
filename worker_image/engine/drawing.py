"""Which nodes of a job draw random numbers that no seed fixes. Estimators are built for it: user code runs."""

from collections.abc import Collection, Sequence

from scipy.sparse import issparse

from flaregate_wire.definitions import EstimatorNode
from flaregate_wire.planning import Setting
from worker_image.draws import Shape, draws
from worker_image.engine.rows import Source
from worker_image.engine.session import Session

_MATRIX = 2


def drawing(session: Session, sources: Sequence[Source]) -> frozenset[str]:
    """The nodes that draw with the parameters they have, or with a value of one of their axes."""
    definition = session.context.definition
    fed = {target for _, target in definition.pipeline.edges}
    shapes = () if definition.halving is not None else _shapes(sources)
    found = set()
    for node in definition.pipeline.nodes:
        if not isinstance(node, EstimatorNode):
            continue
        own = (Setting(axis.node, axis.param, value) for axis in definition.axes for value in axis.values)
        every = [(), *((setting,) for setting in own if setting.node == node.name)]
        if any(_draws(session, node.name, settings, () if node.name in fed else shapes) for settings in every):
            found.add(node.name)
    return frozenset(found)


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
