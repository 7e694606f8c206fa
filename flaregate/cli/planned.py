"""What `flaregate plan` prints: how much a job is, what its nodes ask for, where it would run, what it would cost."""

from collections.abc import Iterator

from flaregate_wire.definitions import Action, JobDefinition, JoinNode, ModelNode, Node
from flaregate_wire.jobs import Cluster, PlanView


def lines(definition: JobDefinition, plan: PlanView) -> Iterator[str]:
    """The plan, a line at a time. What is not known yet is said to be unknown."""
    yield f"{definition.action} {definition.pipeline.name!r}"
    if definition.action is Action.MAP:
        yield f"blocks      {definition.blocks or 'as many as their pace asks for'}"
    else:
        yield f"candidates  {plan.candidates}"
        yield f"folds       {_count(plan.folds)}"
        yield f"tasks       {_count(plan.tasks)} ({_count(plan.tasks_unshared)} if no prefix were shared)"
    why = f": {plan.cached_why}" if plan.cached is None and plan.cached_why else ""
    yield f"cached      {_count(plan.cached)}{why}"
    wide = max(len(node.name) for node in definition.pipeline.nodes)
    for place, node in enumerate(definition.pipeline.nodes):
        count = plan.steps.get(node.name, 0)
        yield f"{'nodes' if place == 0 else '':10}  {node.name:<{wide}}  {count} settings{_needs(node)}"
    yield f"cluster     {_cluster(plan.cluster)}"
    yield f"            {plan.cluster.why}"
    yield f"cost        {plan.cost}"


def _count(number: int | None) -> str:
    return "unknown" if number is None else str(number)


def _needs(node: Node) -> str:
    """What one task of a node asks for, where it asks for anything."""
    if isinstance(node, JoinNode | ModelNode):
        return ""
    asked = node.needs.model_dump(exclude_defaults=True)
    told = [f"{name} {value:g}" for name, value in asked.items()] + ([] if node.cache else ["not cached"])
    return "".join(f", {one}" for one in told)


def _cluster(cluster: Cluster) -> str:
    gpus = f", {cluster.gpus} GPU" if cluster.gpus else ""
    size = f"{cluster.cpus:g} vCPU, {cluster.memory / 1e9:.1f} GB{gpus}"
    return f"{cluster.topology}: {cluster.instances} × {size}"
