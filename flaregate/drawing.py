"""Pictures of a pipeline's definition: lines of text, and SVG. Nothing is imported or unpickled for them."""

from html import escape

from flaregate_wire.definitions import JoinNode, ModelNode, Node, PipelineDefinition
from flaregate_wire.planning.graph import graph

_WIDTH, _HEIGHT, _GAP = 190, 44, 36


def label(node: Node) -> str:
    """`PCA(whiten)`: what a node is and which parameters are not its defaults."""
    if isinstance(node, JoinNode):
        return "join" if node.combine is None else "join with a function"
    if isinstance(node, ModelNode):
        return "fitted pipeline"
    name = node.import_.rpartition(":")[2] if node.import_ else node.kind
    return f"{name}({', '.join(node.params)})" if node.kind == "estimator" else name


def as_text(pipeline: PipelineDefinition) -> str:
    """One line a node, predecessors first: its name, what it is, what feeds it."""
    dag = graph(pipeline)
    nodes = {node.name: node for node in pipeline.nodes}
    wide = max(len(name) for name in nodes)
    kinds = {name: label(node) for name, node in nodes.items()}
    wide_kind = max(len(kind) for kind in kinds.values())
    lines = [pipeline.name]
    for name in dag.order:
        sources = (" + " if name in dag.joins else " | ").join(dag.predecessors[name])
        arrow = f"  ← {sources}" if sources else ""
        lines.append(f"  {name:<{wide}}  {kinds[name]:<{wide_kind}}{arrow}".rstrip())
    return "\n".join(lines)


def as_svg(pipeline: PipelineDefinition) -> str:
    """Boxes in columns from left to right, by their distance from the roots."""
    dag = graph(pipeline)
    column: dict[str, int] = {}
    for name in dag.order:
        column[name] = 1 + max((column[source] for source in dag.predecessors[name]), default=-1)
    rows: dict[int, int] = {}
    place: dict[str, tuple[int, int]] = {}
    for name in dag.order:
        row = rows.get(column[name], 0)
        rows[column[name]] = row + 1
        place[name] = (_GAP + column[name] * (_WIDTH + _GAP), _GAP + row * (_HEIGHT + _GAP))
    nodes = {node.name: node for node in pipeline.nodes}
    width = _GAP + (max(column.values()) + 1) * (_WIDTH + _GAP)
    height = _GAP + max(rows.values()) * (_HEIGHT + _GAP)
    edges = [
        f'<path d="M{place[source][0] + _WIDTH} {place[source][1] + _HEIGHT // 2} '
        f'L{place[name][0]} {place[name][1] + _HEIGHT // 2}" stroke="#888"/>'
        for name in dag.order
        for source in dag.predecessors[name]
    ]
    boxes = [
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="#fff" stroke="#444"/>'
        f'<text x="{x + 8}" y="{y + 18}" font-weight="bold">{escape(name)}</text>'
        f'<text x="{x + 8}" y="{y + 35}" fill="#666">{escape(label(nodes[name]))[:60]}</text>'
        for name, (x, y) in place.items()
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
    return head + 'font-size="12">' + "".join((*edges, *boxes)) + "</svg>"
