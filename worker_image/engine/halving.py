"""Successive halving, as scikit-learn's HalvingGridSearchCV goes: which candidates get how much. Pure.

Source: the user guide of scikit-learn 1.9, "Searching for optimal parameters with successive halving".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flaregate_wire.definitions import Axis, Halving, JobDefinition, Sample

MAGIC = 2
"""Rows of each class in each fold at least."""


class CannotHalve(ValueError):
    """The resources do not allow it."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """How many rounds there are, and what the candidates of each have."""

    resources: tuple[int, ...]
    factor: float


def rounds(halving: Halving, candidates: int, rows: int, folds: int, classes: int) -> Rounds:
    """The rounds of a search.

    Args:
        halving: Its settings.
        candidates: How many there are in the first round.
        rows: Of the source object.
        folds: Of the cross-validation.
        classes: Distinct targets where every path ends in a classifier, else 1.

    Raises:
        CannotHalve: There are fewer resources than the first round needs, or `max_resources` is not known.
    """
    by_rows = halving.resource == "n_samples"
    most = halving.max_resources
    if most == "auto":
        if not by_rows:
            raise CannotHalve("resource can only be 'n_samples' when max_resources='auto'; give max_resources a number")
        most = rows
    asked = halving.min_resources
    least = asked if isinstance(asked, int) else folds * MAGIC * classes if by_rows else 1
    if least > most or not least:
        raise CannotHalve(f"min_resources={least} is greater than max_resources={most}")
    required = 1 + math.floor(math.log(candidates, halving.factor))
    if halving.min_resources == "exhaust":
        least = max(least, int(most // halving.factor ** (required - 1)))
    possible = 1 + math.floor(math.log(most // least, halving.factor))
    count = required if halving.aggressive_elimination else min(possible, required)
    powers = [max(0, one - required + possible) if halving.aggressive_elimination else one for one in range(count)]
    return Rounds(tuple(min(int(halving.factor**power * least), most) for power in powers), halving.factor)


def survivors(means: Mapping[int, float], factor: float) -> list[int]:
    """The candidates of the next round, worst first as scikit-learn lists them; without a mean one is worst."""
    numbers = sorted(means)
    scores = np.asarray([means[number] for number in numbers])
    order = np.roll(np.argsort(scores), np.count_nonzero(np.isnan(scores)))
    return [numbers[place] for place in order[-math.ceil(len(numbers) / factor) :]]


def best_of(means: Mapping[int, float]) -> int:
    """The first candidate of the last round with the best mean; the first one where none has a mean."""
    numbers = sorted(means)
    scores = np.asarray([means[number] for number in numbers])
    return numbers[0] if np.isnan(scores).all() else numbers[int(np.nanargmax(scores))]


def round_definition(definition: JobDefinition, samples: Sequence[Sample], resources: int) -> JobDefinition:
    """The search of one round: its candidates one by one, with the resource where that is a parameter."""
    halving = definition.halving
    assert halving is not None  # noqa: S101 - asked for only then
    axes = definition.axes
    if halving.resource_node is not None and halving.resource_param is not None:
        axes = (*axes, Axis(node=halving.resource_node, param=halving.resource_param, values=(resources,)))
        samples = [(*sample, 0) for sample in samples]
    return definition.model_copy(update={"axes": axes, "samples": tuple(samples)})
