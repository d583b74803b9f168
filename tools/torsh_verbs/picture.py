"""Drawing a program: Graphviz text, and a layered SVG without any tool.

Nodes are the ops of `@main`, a fused region as one node with the names of its ops; weights and
constants are left out. In the SVG, a node stands below everything it reads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Operation, SSAValue

from torsh_dialect.evaluate import names_of
from torsh_dialect.ops.constant import ConstantOp, WeightOp
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.types import dims_of, element_type

MOST_NAMES = 4
"""Ops of a fused region that its label lists."""

WIDTH, HEIGHT, GAP, STEP = 210, 38, 24, 72
"""Of a node in the SVG, between two of a row, and from row to row, in pixels."""

COLOURS = {"input": "#e8f1fb", "op": "#ffffff", "fused": "#eaf6ea", "output": "#fdf0e1"}


@dataclass(frozen=True)
class Node:
    """A box: what kind it is, its label, and the type of what it gives."""

    kind: str
    label: str
    type: str


@dataclass
class Graph:
    """Boxes and the pairs of them that data flows between."""

    nodes: list[Node] = field(default_factory=list[Node])
    edges: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def add(self, node: Node, sources: list[int]) -> int:
        """Add a box that reads from others; returns its number."""
        self.nodes.append(node)
        number = len(self.nodes) - 1
        self.edges.extend((source, number) for source in dict.fromkeys(sources))
        return number

    def rows(self) -> list[list[int]]:
        """The boxes by the length of the longest path to them."""
        depth = [0] * len(self.nodes)
        for source, target in self.edges:  # in the order of targets
            depth[target] = max(depth[target], depth[source] + 1)
        found: list[list[int]] = [[] for _ in range(max(depth, default=0) + 1)]
        for number, row in enumerate(depth):
            found[row].append(number)
        return found


def graph_of(module: ModuleOp) -> Graph:
    """The data flow of `@main`."""
    graph = Graph()
    for function in module.ops:
        if isinstance(function, FuncOp) and function.sym_name.data == "main":
            _add_function(graph, function)
    return graph


def _add_function(graph: Graph, function: FuncOp) -> None:
    made: dict[SSAValue, int] = {}
    inputs = names_of(function, "arg_names")
    for number, argument in enumerate(function.body.block.args):
        name = inputs[number] if number < len(inputs) else f"input {number}"
        made[argument] = graph.add(Node("input", name, type_text(argument)), [])
    for op in function.body.block.ops:
        if isinstance(op, WeightOp | ConstantOp):
            continue
        sources = [made[v] for v in _read(op) if v in made]
        if isinstance(op, ReturnOp):
            names = names_of(function, "result_names")
            for number, value in enumerate(op.operands):
                name = names[number] if number < len(names) else f"output {number}"
                source = [made[value]] if value in made else []
                graph.add(Node("output", name, type_text(value)), source)
            continue
        kind = "fused" if isinstance(op, FusedOp) else "op"
        type_ = type_text(op.results[0]) if op.results else ""
        node = graph.add(Node(kind, label_of(op), type_), sources)
        made.update(dict.fromkeys(op.results, node))


def _read(op: Operation) -> list[SSAValue]:
    """Operands of an op and of what is in its regions."""
    return [value for inner in op.walk() for value in inner.operands]


def label_of(op: Operation) -> str:
    """The name of an op; of a fused region, the names of its ops."""
    if not isinstance(op, FusedOp):
        return op.name.removeprefix("torsh.")
    names = [inner.name.removeprefix("torsh.") for inner in op.body.block.ops]
    shown = [name for name in names if name not in ("yield", "constant")]
    rest = len(shown) - MOST_NAMES
    return " ".join(shown[:MOST_NAMES]) + (f" +{rest}" if rest > 0 else "")


def type_text(value: SSAValue) -> str:
    """Element type and extents: `f32[batch, 10]`."""
    return f"{element_type(value)}[{', '.join(map(str, dims_of(value)))}]"


def dot_text(module: ModuleOp) -> str:
    """The program in Graphviz's language."""
    graph = graph_of(module)
    lines = ["digraph program {", "  node [shape=box, style=filled, fontname=sans]"]
    for number, node in enumerate(graph.nodes):
        label = f"{node.label}\n{node.type}".replace("\\", "\\\\").replace('"', '\\"')
        label = label.replace("\n", "\\n")
        lines.append(f'  n{number} [label="{label}", fillcolor="{COLOURS[node.kind]}"]')
    lines.extend(f"  n{source} -> n{target}" for source, target in graph.edges)
    return "\n".join([*lines, "}"]) + "\n"


def svg_text(module: ModuleOp) -> str:
    """The program as an SVG picture."""
    graph = graph_of(module)
    rows = graph.rows()
    widest = max(len(row) for row in rows)
    total = widest * (WIDTH + GAP) + GAP
    places: dict[int, tuple[float, float]] = {}
    for depth, row in enumerate(rows):
        left = (total - len(row) * (WIDTH + GAP) + GAP) / 2
        for column, number in enumerate(row):
            places[number] = left + column * (WIDTH + GAP), GAP + depth * STEP
    height = GAP + len(rows) * STEP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height}" '
        f'width="{total}" height="{height}" font-family="sans-serif" font-size="12">',
    ]
    for source, target in graph.edges:
        (x1, y1), (x2, y2) = places[source], places[target]
        x1, x2, y1 = x1 + WIDTH / 2, x2 + WIDTH / 2, y1 + HEIGHT
        middle = (y1 + y2) / 2
        lines.append(
            f'<path d="M{x1:g},{y1:g} C{x1:g},{middle:g} {x2:g},{middle:g} {x2:g},{y2:g}" '
            'fill="none" stroke="#888"/>'
        )
    for number, (x, y) in places.items():
        lines += _box(graph.nodes[number], x, y)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _box(node: Node, x: float, y: float) -> list[str]:
    middle = x + WIDTH / 2
    label, type_ = escape(_cut(node.label)), escape(_cut(node.type))
    return [
        f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="5" stroke="#444" '
        f'fill="{COLOURS[node.kind]}"/>',
        f'<text x="{middle:g}" y="{y + 16:g}" text-anchor="middle">{label}</text>',
        f'<text x="{middle:g}" y="{y + 31:g}" text-anchor="middle" fill="#666" font-size="10">'
        f"{type_}</text>",
    ]


def _cut(text: str, width: int = 32) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
