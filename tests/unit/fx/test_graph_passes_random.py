"""Passes, forms and splits keep the values of random graphs; torch's own idioms are accepted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx

import torsh_fx
from torsh_dialect.evaluate import evaluate
from torsh_fx import (
    DeadCodeEliminationPass,
    FxGraph,
    ModuleTracer,
    Node,
    OperationFusionPass,
    PassManager,
)
from torsh_fx.errors import InvalidArgumentError
from torsh_fx.graph.source import import_graph
from torsh_fx.graph.split import OperatorSupport, split_graph

UNARY = ("relu", "tanh", "neg", "softmax", "square", "sigmoid")
BINARY = ("add", "mul", "sub", "maximum")
RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4)).astype(np.float32)
WEIGHTS = {
    "weight": RNG.standard_normal((4, 4)).astype(np.float32),
    "bias": RNG.standard_normal(4).astype(np.float32),
}


@st.composite
def graphs(draw):
    typed = draw(st.booleans())
    tracer = ModuleTracer()
    tracer.add_input("x", "f32[3, 4]" if typed else None)
    names, linear = ["x"], []
    for k in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(("unary", "binary", "linear", "cond")))
        pick = st.sampled_from(names)
        if kind == "unary":
            tracer.add_call(draw(st.sampled_from(UNARY)), [draw(pick)])
        elif kind == "binary":
            other = draw(st.one_of(pick, st.sampled_from(("0.5", "one"))))
            tracer.add_call(draw(st.sampled_from(BINARY)), [draw(pick), other])
        elif kind == "linear":
            tracer.add_call("linear", [draw(pick)])
            linear.append(f"node_{k}")
        else:
            tracer.add_call("sum", [draw(pick)], name=f"total_{k}")
            tracer.add_call("greater", [f"total_{k}", "zero"], name=f"test_{k}")
            tracer.add_conditional(f"test_{k}", [draw(pick)], [draw(pick)], name=f"node_{k}")
        names.append(f"node_{k}")
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)):
        tracer.add_output(name)
    graph = tracer.finalize()
    graph.bind({f"{node}.{name}": array for node in linear for name, array in WEIGHTS.items()})
    return graph


def values(graph):
    model = import_graph(graph, (X,))
    return evaluate(model.module, [X], model.weights)


@settings(max_examples=25, deadline=None)
@given(graphs())
def test_passes_and_forms_keep_values(graph):
    before = values(graph)
    again = FxGraph.from_binary(graph.to_binary())
    copy = graph.clone()
    assert list(copy.nodes()) == list(again.nodes())
    manager = PassManager()
    manager.add_pass(OperationFusionPass())
    manager.add_pass(DeadCodeEliminationPass())
    manager.run(graph)
    for other in (graph, again, copy):
        for a, b in zip(values(other), before, strict=True):
            np.testing.assert_array_equal(a, b)


@settings(max_examples=20, deadline=None)
@given(graphs(), st.integers(1, 4))
def test_parts_compute_what_the_whole_does(graph, size):
    graph.set_input_type("x", "f32[3, 4]")
    seen: dict[int, int] = {}
    parts = split_graph(graph, lambda index, node: seen.setdefault(index, len(seen)) // size)

    def run(part):
        model = import_graph(part.graph)
        return lambda *args: tuple(evaluate(model.module, list(args), model.weights))

    found = parts.run([run(part) for part in parts.parts], X)
    for a, b in zip(found, values(graph), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_split_that_cannot_run_is_refused():
    tracer = ModuleTracer()
    tracer.add_input("x", "f32[3]")
    for k, name in enumerate(("x", "node_0", "node_1")):
        tracer.add_call(("relu", "neg", "exp")[k], [name])
    tracer.add_output("node_2")
    graph = tracer.finalize()
    with pytest.raises(InvalidArgumentError, match="part 0 needs 'node_1'"):
        split_graph(graph, lambda index, node: int(node.operation == "neg"))
    parts = split_graph(graph, lambda index, node: int(node.operation == "exp"))
    x = np.array([1.0, -1.0, 2.0], np.float32)
    functions = [torsh_fx.compile(part.graph) for part in parts.parts]
    np.testing.assert_allclose(parts.run(functions, x)[0], np.exp(-np.maximum(x, 0)), rtol=1e-6)
    with pytest.raises(InvalidArgumentError, match="2 functions and 1 inputs"):
        parts.run(functions[:1], x)


def test_operator_support():
    support = OperatorSupport()
    assert support.is_node_supported(Node.Call("relu", ["x"]))
    assert support.is_node_supported(Node.Input("x"))
    assert not support.is_node_supported(Node.Call("framework_specific_op", ["x"]))


def test_a_rewritten_torch_graph_compiles():
    """The guide's snippet for torch: relu becomes gelu, then the module is compiled."""

    class SimpleModule(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(10, 1)

        def forward(self, x):
            return torch.relu(self.linear(x))

    module = SimpleModule()
    traced = fx.symbolic_trace(module)
    for node in traced.graph.nodes:
        if node.op == "call_function" and node.target == torch.relu:
            with traced.graph.inserting_after(node):
                new_node = traced.graph.call_function(torch.nn.functional.gelu, node.args)
                node.replace_all_uses_with(new_node)
            traced.graph.erase_node(node)
    traced.recompile()
    x = torch.randn(3, 10)
    with torch.no_grad():
        expected = torch.nn.functional.gelu(module.linear(x))
    graph = torsh_fx.from_pytorch(traced, (x,))
    assert sorted(graph.weights) == ["linear.bias", "linear.weight"]
    torch.testing.assert_close(torsh_fx.compile(graph)(x), expected, rtol=1e-5, atol=1e-6)
    f = torsh_fx.compile(traced, (x,))
    torch.testing.assert_close(f(x), expected, rtol=1e-5, atol=1e-6)
    operations = [n.operation for _, n in f.graph.nodes() if isinstance(n, Node.Call)]
    assert operations == ["linear", "gelu"]
