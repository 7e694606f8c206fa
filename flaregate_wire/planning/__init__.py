"""From a definition to its task graph: pure functions, no import of user code."""

from flaregate_wire.planning.checks import faults
from flaregate_wire.planning.folds import fold_count
from flaregate_wire.planning.graph import Path, TooManyPaths, paths
from flaregate_wire.planning.identity import scoring_identity
from flaregate_wire.planning.plan import Candidate, Counts, Plan, Setting, Step, plan

__all__ = [
    "Candidate",
    "Counts",
    "Path",
    "Plan",
    "Setting",
    "Step",
    "TooManyPaths",
    "faults",
    "fold_count",
    "paths",
    "plan",
    "scoring_identity",
]
