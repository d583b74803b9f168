"""Guide A's snippets (lines 37-45, 61-83, 95-101 and control flow), in Python."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import torsh_fx
from torsh_fx import (
    DeadCodeEliminationPass,
    FxGraph,
    ModuleTracer,
    Node,
    OperationFusionPass,
    Pass,
    PassManager,
)
from torsh_fx.errors import InvalidArgumentError, UnboundParameterError


def create_simple_module() -> FxGraph:
    tracer = ModuleTracer()
    tracer.add_input("x")
    tracer.add_call("linear", ["x"])
    tracer.add_call("relu", ["node_0"])
    tracer.add_output("node_1")
    return tracer.finalize()


class ReluToGeluPass(Pass):
    def apply(self, graph):
        replacements = []
        for idx, node in graph.nodes():
            match node:
                case Node.Call(op_name, args) if op_name == "relu":
                    replacements.append((idx, "gelu", list(args)))
        for idx, new_op, args in replacements:
            node = graph.graph.node_weight_mut(idx)
            if node is not None:
                node.replace(Node.Call(new_op, args))

    def name(self):
        return "relu_to_gelu"


def optimize_graph(graph):
    pass_manager = PassManager()
    pass_manager.add_pass(OperationFusionPass())
    pass_manager.add_pass(DeadCodeEliminationPass())
    return pass_manager.run(graph)


@pytest.fixture(scope="module")
def linear():
    torch.manual_seed(0)
    return torch.nn.Linear(10, 1)


def bound(graph, linear):
    graph.bind(
        {
            "node_0.weight": linear.weight.detach().numpy(),
            "node_0.bias": linear.bias.detach().numpy(),
        }
    )
    return graph


def test_nodes_of_the_first_snippet():
    assert list(create_simple_module().nodes()) == [
        (0, Node.Input("x")),
        (1, Node.Call("linear", ["x"])),
        (2, Node.Call("relu", ["node_0"])),
        (3, Node.Output("node_1")),
    ]


def test_linear_without_weights_asks_for_both():
    with pytest.raises(UnboundParameterError, match=r"node_0\.weight and node_0\.bias"):
        torsh_fx.compile(create_simple_module(), (np.zeros((4, 10), np.float32),))


def test_the_first_snippet_equals_torch(linear):
    x = torch.randn(5, 10)
    f = torsh_fx.compile(bound(create_simple_module(), linear), (x,))
    expected = torch.relu(linear(x)).detach()
    assert torch.allclose(f(x), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(f(x=x.numpy()), expected.numpy(), rtol=0, atol=1e-6)


def test_relu_to_gelu_keeps_index_name_and_uses(linear):
    graph = create_simple_module()
    ReluToGeluPass().apply(graph)
    assert dict(graph.nodes())[2] == Node.Call("gelu", ["node_0"])
    assert graph.edges() == [(0, 1), (1, 2), (2, 3)]
    x = torch.randn(5, 10)
    expected = torch.nn.functional.gelu(linear(x)).detach()
    f = torsh_fx.compile(bound(graph, linear), (x,))
    assert torch.allclose(f(x), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("typed", [False, True])
def test_fusion_and_dead_code(linear, typed):
    tracer = ModuleTracer()
    tracer.add_input("x", "f32[n, 10]" if typed else None)
    tracer.add_call("linear", ["x"])
    tracer.add_call("relu", ["node_0"])
    tracer.add_call("tanh", ["node_0"])
    tracer.add_call("square", ["node_2"])
    tracer.add_call("mul", ["node_1", "0.5"])
    tracer.add_output("node_4")
    graph = bound(tracer.finalize(), linear)
    runs = optimize_graph(graph)
    assert [(run.name, run.changed) for run in runs] == [
        ("operation_fusion", True),
        ("dead_code_elimination", True),
    ]
    calls = [n.operation for _, n in graph.nodes() if isinstance(n, Node.Call)]
    assert calls == ["linear", "fused"]  # linear had two users when it was fused
    runs = optimize_graph(graph)
    assert [run.changed for run in runs] == [False, False]
    x = torch.randn(3, 10)
    expected = 0.5 * torch.relu(linear(x)).detach()
    assert torch.allclose(torsh_fx.compile(graph, (x,))(x), expected, rtol=0, atol=1e-6)


def test_a_linear_and_its_activation_become_one_node(linear):
    graph = bound(create_simple_module(), linear)
    optimize_graph(graph)
    assert list(graph.nodes()) == [
        (0, Node.Input("x")),
        (2, Node.Call("fused", ["x"], {"operations": ["linear", "relu"]})),
        (3, Node.Output("node_1")),
    ]
    x = torch.randn(3, 10)
    expected = torch.relu(linear(x)).detach()
    assert torch.allclose(torsh_fx.compile(graph, (x,))(x), expected, rtol=0, atol=1e-6)


def test_tensorflow_equivalent():
    tracer = ModuleTracer()
    for name in ("x", "W", "b"):
        tracer.add_input(name)
    tracer.add_call("matmul", ["x", "W"])
    tracer.add_call("add", ["node_0", "b"])
    tracer.add_call("softmax", ["node_1"])
    tracer.add_output("node_2")
    graph = tracer.finalize()
    x, w, b = torch.randn(2, 784), torch.randn(784, 10), torch.randn(10)
    f = torsh_fx.compile(graph, (x, w, b))
    expected = torch.softmax(x.double() @ w.double() + b, -1)
    assert torch.allclose(f(x, w, b).double(), expected, rtol=0, atol=1e-5)
    assert torch.equal(f(x, b=b, W=w), f(x, w, b))


@pytest.mark.parametrize("value", [-3.0, 0.0, 2.0])
def test_conditional_example(value):
    tracer = ModuleTracer()
    tracer.add_input("x")
    tracer.add_call("greater", ["x", "zero"])
    tracer.add_call("square", ["x"])
    tracer.add_call("abs", ["x"])
    tracer.add_conditional("node_0", ["node_1"], ["node_2"])
    tracer.add_output("node_3")
    graph = tracer.finalize()
    nodes = dict(graph.nodes())
    assert nodes[1] == Node.Call("greater", ["x", "zero"])
    assert nodes[4] == Node.Conditional("node_0", ["node_1"], ["node_2"])
    assert graph.op(2).parent_op() is graph.op(4)  # square runs in the branch only
    x = torch.tensor([value])
    f = torsh_fx.compile(graph, (x,))
    assert torch.equal(f(x), torch.square(x) if value > 0 else torch.abs(x))


def test_loop_recomputes_body_and_condition():
    tracer = ModuleTracer()
    tracer.add_input("n")
    tracer.add_input("total")
    tracer.add_call("greater", ["n", "zero"])
    tracer.add_call("sub", ["n", "1"])
    tracer.add_call("add", ["total", "n"])
    tracer.add_loop("node_0", ["node_1", "node_2"], ["n", "total"])
    tracer.add_output("node_3")
    tracer.add_output("node_3.1")
    graph = tracer.finalize()
    loop = graph.node(graph.index_of("node_3"))
    assert loop == Node.Loop("node_0", ["node_1", "node_2"], ["n", "total"])
    zero = np.asarray(0, np.int64)
    f = torsh_fx.compile(graph, (zero, zero))
    for n in (0, 1, 100):
        left, total = f(np.asarray(n), zero)
        assert (left, total) == (0, n * (n + 1) // 2)


def test_merge_joins_the_branches_of_a_conditional():
    tracer = ModuleTracer()
    tracer.add_input("x")
    tracer.add_call("less", ["x", "2.5"])
    tracer.add_call("neg", ["x"])
    tracer.add_call("exp", ["x"])
    tracer.add_conditional("node_0", ["node_1"], ["node_2"])
    tracer.add_merge(["node_1", "node_2"])
    tracer.add_call("mul", ["node_4", "2"])
    tracer.add_output("node_5")
    graph = tracer.finalize()
    assert graph.node(graph.index_of("node_4")) == Node.Merge(["node_3"])
    f = torsh_fx.compile(graph, (np.float32(0),))
    assert f(np.float32(2)) == -4
    np.testing.assert_allclose(f(np.float32(3)), 2 * np.exp(np.float32(3)), rtol=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda t: t.add_call("relu", ["y"]), "nothing is called 'y'"),
        (lambda t: t.add_input("x"), "'x' is taken"),
        (lambda t: t.add_output("node_7"), "'node_7' is not defined"),
        (lambda t: t.finalize(), "no output"),
        (lambda t: t.add_call("relu", ["x"], name="x"), "'x' is taken"),
        (lambda t: t.add_call("relu", ["x"], name="one"), "'one' is a literal"),
        (lambda t: t.add_conditional("x", ["x"], []), "1 and 0 values"),
        (lambda t: t.add_loop("x", [], ["x"]), "1 variables, but 0 next values"),
        (lambda t: t.add_get_attr("fc.weight"), "no weight 'fc.weight'"),
        (lambda t: t.add_call("split", ["x"]), "split needs"),
    ],
)
def test_what_a_tracer_refuses(build, message):
    tracer = ModuleTracer()
    tracer.add_input("x")
    with pytest.raises(InvalidArgumentError, match=message):
        build(tracer)


def test_a_finalized_tracer_is_closed():
    tracer = ModuleTracer()
    tracer.add_input("x")
    tracer.add_output("x")
    tracer.finalize()
    with pytest.raises(InvalidArgumentError, match="finalized"):
        tracer.add_input("y")
