"""FxGraph is a live view: edits of the module show in the graph and the other way round."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import torsh_fx
from torsh_dialect.evaluate import evaluate
from torsh_dialect.ops.activation import GeluOp, ReluOp
from torsh_dialect.ops.call import CallOp
from torsh_dialect.passes.canonicalize import CanonicalizePass
from torsh_dialect.passes.relu_to_gelu import ReluToGeluPass
from torsh_fx import DialectPass, FxGraph, ModuleTracer, Node, Pass, PassManager, TypeChecker
from torsh_fx.errors import (
    ImportModelError,
    InvalidArgumentError,
    PassError,
    UnsupportedError,
    VerificationError,
)
from torsh_fx.graph.passes import GraphPass
from torsh_fx.graph.source import import_graph
from torsh_fx.graph.typecheck import IncompatibleTypes, MissingTypeInfo, insert_type_conversion


def graph_of(*calls, inputs=(("x", "f32[2, 3]"),), outputs=None) -> FxGraph:
    tracer = ModuleTracer()
    for name, type in inputs:
        tracer.add_input(name, type)
    for operation, arguments, *attributes in calls:
        tracer.add_call(operation, arguments, attributes=dict(*attributes))
    for name in outputs or [f"node_{len(calls) - 1}"]:
        tracer.add_output(name)
    return tracer.finalize()


def value(graph, *arrays):
    model = import_graph(graph, arrays)
    return evaluate(model.module, [np.asarray(a) for a in arrays], model.weights)


X = np.array([[-1.0, 0.0, 2.0], [3.0, -4.0, 0.5]], np.float32)


# -- one truth


def test_typed_calls_are_ops_of_the_dialect():
    graph = graph_of(("relu", ["x"]))
    assert isinstance(graph.op(1), ReluOp)
    assert graph.type_of("node_0") == graph.type_of("x")


def test_an_edit_of_the_module_shows_in_the_graph():
    graph = graph_of(("relu", ["x"]), ("neg", ["node_0"]))
    op = graph.op(1)
    gelu = GeluOp.make(op.operands[0], approximate="none")
    op.parent.insert_op_before(gelu, op)
    op.results[0].replace_all_uses_with(gelu.y)
    op.detach()
    op.erase()
    kinds = [n.operation for _, n in graph.nodes() if isinstance(n, Node.Call)]
    assert kinds == ["gelu", "neg"]
    index = next(i for i, n in graph.nodes() if isinstance(n, Node.Call) and n.operation == "gelu")
    assert index not in (0, 1, 2, 3)  # a new node has a new index, the erased one's is gone
    assert graph.node(2) == Node.Call("neg", [graph.name_of(index)])
    with pytest.raises(InvalidArgumentError, match="no node 1"):
        graph.node(1)


def test_an_edit_of_the_graph_shows_in_the_module():
    graph = graph_of(("relu", ["x"]), ("neg", ["node_0"]))
    graph.set_node(1, Node.Call("gelu", ["x"], {"approximate": "tanh"}))
    assert isinstance(graph.op(1), GeluOp)
    assert graph.op(2).operands[0].owner is graph.op(1)
    graph.set_node(1, Node.Call("softmax", ["x"]))
    assert '"torsh.' not in graph.mlir()
    assert "torsh.softmax %0 {axis = -1 : i64" in graph.mlir()
    graph.verify()


def test_types_follow_an_edit():
    graph = graph_of(("relu", ["x"]), ("neg", ["node_0"]))
    graph.set_node(1, Node.Call("mean", ["x"], {"axis": 1}))
    assert str(graph.type_of("node_1")) == "tensor<2xf32>"
    np.testing.assert_allclose(value(graph, X)[0], -X.mean(1), rtol=1e-6)
    graph.set_input_type("x", "f32[batch: 1..8, 5]")
    assert str(graph.type_of("node_1")) == "tensor<?xf32, #torsh.dims<[batch]>>"


def test_insert_and_erase():
    graph = graph_of(("relu", ["x"]), ("neg", ["node_0"]))
    new = graph.insert_after(1, Node.Call("add", ["node_0", "1.5"]))
    assert graph.name_of(new) == "node_2"
    graph.set_node(2, Node.Call("neg", ["node_2"]))
    np.testing.assert_array_equal(value(graph, X)[0], -(np.maximum(X, 0) + 1.5))
    with pytest.raises(InvalidArgumentError, match="used by node_1"):
        graph.erase_node(new)
    graph.replace_all_uses_with(new, "x")
    graph.erase_node(new)
    graph.erase_node(1)
    assert [n for _, n in graph.nodes()] == [
        Node.Input("x"),
        Node.Call("neg", ["x"]),
        Node.Output("node_1"),
    ]
    with pytest.raises(InvalidArgumentError, match="needs an output"):
        graph.erase_node(graph.index_of("node_1") + 1)


def test_inputs_and_outputs_can_be_changed():
    graph = graph_of(
        ("add", ["x", "y"]),
        ("mul", ["x", "node_0"]),
        inputs=(("x", "f32[3]"), ("y", "f32[3]")),
        outputs=["node_1", "node_0"],
    )
    graph.set_node(0, Node.Input("left"))
    assert graph.node(2) == Node.Call("add", ["left", "y"])
    graph.set_node(5, Node.Output("y"))
    graph.erase_node(4)
    assert graph.outputs == ["y"]
    graph.set_node(3, Node.Call("mul", ["left", "left"]))
    with pytest.raises(InvalidArgumentError, match="'y' is used"):
        graph.erase_node(1)
    with pytest.raises(InvalidArgumentError, match="taken"):
        graph.set_node(0, Node.Input("node_0"))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Node.Call("neg", ["node_1"]), "not computed yet"),
        (Node.Call("neg", ["z"]), "nothing is called 'z'"),
        (Node.Call("add", ["x"]), "takes 2 arguments, got 1"),
        (Node.Call("softmax", ["x"], {"axes": 1}), "no options axes; those it has: axis, dim"),
        (Node.Call("split", ["x"], {"sections": 2}), "has 1 values"),
        (Node.Output("x"), "no node with a value"),
    ],
)
def test_edits_that_are_refused_change_nothing(node, message):
    graph = graph_of(("relu", ["x"]), ("neg", ["node_0"]))
    before = graph.mlir()
    with pytest.raises(InvalidArgumentError, match=message):
        graph.set_node(1, node)
    assert graph.mlir() == before


def test_imported_graphs_have_the_guides_names(tmp_path):
    weight = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "conv.weight")
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    proto = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("m", TensorProto.FLOAT, None)],
        [weight],
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)])
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    graph = torsh_fx.OnnxImporter().import_from_file(path)
    nodes = [n for _, n in graph.nodes()]
    calls = [n.operation for n in nodes if isinstance(n, Node.Call)]
    assert calls == ["conv2d", "relu", "max_pool2d"]
    assert Node.GetAttr("conv.weight") in nodes
    assert [graph.name_of(i) for i, n in graph.nodes() if isinstance(n, Node.Call)] == [
        "node_0",
        "node_1",
        "node_2",
    ]
    relu = graph.index_of("node_1")
    graph.set_node(relu, Node.Call("tanh", graph.node(relu).arguments))
    for index, node in list(graph.nodes()):  # every node can be put back as it is shown
        if isinstance(node, Node.Call):
            graph.set_node(index, node)
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    model.graph.node[1].op_type = "Tanh"
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(torsh_fx.compile(graph)(x), expected, rtol=1e-5, atol=1e-6)


# -- types


def test_ill_typed_graphs_exist_and_are_reported_as_a_whole():
    graph = graph_of(
        ("add", ["x", "n"]),
        ("relu", ["node_0"]),
        ("matmul", ["x", "x"]),
        inputs=(("x", "f32[2, 3]"), ("n", "i64[3]"), ("u", None)),
        outputs=["node_1", "node_2"],
    )
    graph.verify()
    findings = TypeChecker().check_graph(graph)
    kinds = [(type(f).__name__, f.node_idx) for f in findings]
    assert kinds == [
        ("MissingTypeInfo", 2),
        ("IncompatibleTypes", 3),
        ("MissingTypeInfo", 4),
        ("IncompatibleTypes", 5),
    ]
    assert (findings[1].expected, findings[1].actual) == ("f32", "i64")
    assert isinstance(findings[0], torsh_fx.TypeError.MissingTypeInfo)
    with pytest.raises(VerificationError, match=r"(?s)node_0: .*node_2: "):
        import_graph(graph, {"u": X})


def test_a_type_conversion_repairs_a_mismatch():
    graph = graph_of(("add", ["x", "n"]), inputs=(("x", "f32[3]"), ("n", "i64[3]")))
    (finding,) = TypeChecker().check_graph(graph)
    assert isinstance(finding, IncompatibleTypes)
    insert_type_conversion(graph, finding.node_idx, finding.expected)
    assert TypeChecker().check_graph(graph) == []
    found = value(graph, np.array([0.5, 1.5, 2.5], np.float32), np.array([1, 2, 3]))[0]
    np.testing.assert_array_equal(found, np.array([1.5, 3.5, 5.5], np.float32))


def test_literals_take_the_type_of_the_other_side():
    graph = graph_of(("add", ["n", "2"]), inputs=(("n", "i32[2]"),))
    np.testing.assert_array_equal(
        value(graph, np.array([1, 2], np.int32))[0], np.array([3, 4], np.int32)
    )
    with pytest.raises(InvalidArgumentError, match=r"the literal 0\.5 is no i32"):
        graph_of(("add", ["n", "0.5"]), inputs=(("n", "i32[2]"),))


def test_missing_parameters_are_a_finding():
    graph = graph_of(("linear", ["x"]))
    (finding,) = TypeChecker().check_graph(graph)
    assert isinstance(finding, MissingTypeInfo)
    assert "node_0.weight and node_0.bias" in finding.message
    with pytest.raises(InvalidArgumentError, match=r"no node has the parameter 'node_9\.weight'"):
        graph.bind({"node_9.weight": X})


def test_unknown_operations_stay_until_they_have_a_meaning():
    graph = graph_of(("condition_check", ["x"]), ("custom_torsh_op", ["x"]), outputs=["node_1"])
    manager = PassManager()
    manager.add_pass(torsh_fx.DeadCodeEliminationPass())
    manager.run(graph)
    assert isinstance(graph.op(1), CallOp)  # nobody knows its effects
    with pytest.raises(UnsupportedError, match="condition_check, custom_torsh_op"):
        import_graph(graph, (X,))
    for name in ("condition_check", "custom_torsh_op"):
        graph.register_operation(name, lambda call: call.c.mul(call.argument(0), 3.0))
    np.testing.assert_array_equal(value(graph, X)[0], X * 3)


# -- passes


class Named(Pass):
    def __init__(self, name, after=(), log=None, fault=None):
        self._name, self._after, self._log, self._fault = name, list(after), log, fault

    def apply(self, graph):
        self._log.append(self._name)
        if self._fault is not None:
            raise self._fault

    def name(self):
        return self._name

    def dependencies(self):
        return self._after


def test_passes_run_in_order_but_for_dependencies():
    log: list[str] = []
    manager = PassManager()
    for one in (Named("a", ["c"], log), Named("b", [], log), Named("c", [], log)):
        manager.add_pass(one)
    manager.run(graph_of(("relu", ["x"])))
    assert log == ["b", "c", "a"]


def test_a_failing_pass_stops_the_others():
    log: list[str] = []
    manager = PassManager()
    manager.add_pass(Named("a", [], log, VerificationError("broken")))
    manager.add_pass(Named("b", [], log))
    with pytest.raises(PassError, match="the pass a: broken"):
        manager.run(graph_of(("relu", ["x"])))
    assert log == ["a"]
    with pytest.raises(PassError, match="added already"):
        manager.add_pass(Named("b"))
    lonely = PassManager()
    lonely.add_pass(Named("a", ["z"], log))
    with pytest.raises(PassError, match="needs the passes z"):
        lonely.order()


def test_passes_of_both_kinds_wrap_each_other():
    graph = graph_of(("relu", ["x"]), ("relu", ["x"]), ("add", ["node_0", "node_1"]))
    manager = PassManager()
    manager.add_pass(DialectPass(CanonicalizePass()))
    manager.add_pass(DialectPass(ReluToGeluPass()))
    manager.run(graph)
    calls = [n.operation for _, n in graph.nodes() if isinstance(n, Node.Call)]
    assert calls == ["gelu", "add"]
    module = graph_of(("relu", ["x"])).module
    log: list[str] = []
    wrapped = GraphPass(Named("seen", [], log))
    wrapped.apply(None, module)
    assert (wrapped.name, log) == ("seen", ["seen"])


# -- forms


def loop_graph():
    tracer = ModuleTracer()
    tracer.add_input("n", "f32[]")
    tracer.add_call("greater", ["n", "zero"])
    tracer.add_call("sub", ["n", "1.5"])
    tracer.add_loop("node_0", ["node_1"], ["n"])
    tracer.add_call("linear", ["node_2"], attributes={"bias": False})
    tracer.add_output("node_2")
    return tracer.finalize()


def test_json_and_bytes_keep_everything():
    graph = graph_of(
        ("linear", ["x"]),
        ("split", ["node_0"], {"sizes": [1, 3], "axis": 1}),
        ("softmax", ["node_1.1"], {"axis": 0}),
        inputs=(("x", "f32[batch: 1..8, 3]"),),
        outputs=["node_2", "node_1.0"],
    )
    rng = np.random.default_rng(0)
    arrays = {
        "node_0.weight": rng.standard_normal((4, 3)).astype(np.float32),
        "node_0.bias": rng.standard_normal(4).astype(np.float32),
    }
    graph.bind(arrays)
    for again in (
        FxGraph.from_json(graph.to_json(), arrays),
        FxGraph.from_binary(graph.to_binary()),
    ):
        assert again.mlir() == graph.mlir()
        assert list(again.nodes()) == list(graph.nodes())
        for a, b in zip(value(again, X), value(graph, X), strict=True):
            np.testing.assert_array_equal(a, b)
    assert FxGraph.from_binary(graph.to_binary()).to_binary() == graph.to_binary()


def test_regions_survive_json():
    graph = loop_graph()
    again = FxGraph.from_json(graph.to_json())
    assert again.mlir() == graph.mlir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[: len(t) // 2], "the JSON is no graph"),
        (lambda t: t.replace('"2.0"', '"3.0"'), "format version 3.0"),
        (lambda t: t.replace("torsh-fx-graph", "other"), "the format is 'other'"),
        (lambda t: t.replace("torsh.relu", "torsh.nothing"), "'torsh.nothing', which is unknown"),
        (lambda t: t.replace("torsh.relu", "torsh.add"), "the JSON is no graph"),
        (lambda t: t.replace("tensor<2x3xf32>", "tensor<2x"), "the JSON is no graph"),
        (lambda t: "[]", "expected an object"),
    ],
)
def test_damaged_json_is_refused(change, message):
    text = graph_of(("relu", ["x"])).to_json()
    with pytest.raises(ImportModelError, match=message):
        FxGraph.from_json(change(text))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes_are_refused(data):
    whole = graph_of(("relu", ["x"])).to_binary()
    position = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ImportModelError):
        FxGraph.from_binary(bytes(damaged))
    with pytest.raises(ImportModelError):
        FxGraph.from_binary(whole[:position])


def test_printing_shows_every_node():
    text = str(graph_of(("relu", ["x"]), ("mul", ["node_0", "0.5"])))
    assert text.splitlines() == [
        "FxGraph:",
        "   0  x = input : tensor<2x3xf32>",
        "   1  node_0 = relu(x) : tensor<2x3xf32>",
        "   2  node_1 = mul(node_0, 0.5) : tensor<2x3xf32>",
        "   3  output node_1",
    ]


def test_dead_code_goes_in_branches_too_and_runs_are_observed():
    tracer = ModuleTracer()
    tracer.add_input("x", "f32[]")
    tracer.add_call("greater", ["x", "zero"])
    tracer.add_call("exp", ["x"])
    tracer.add_conditional("node_0", ["node_1"], ["x"])
    tracer.add_output("node_2")
    graph = tracer.finalize()
    extra = graph.insert_before(graph.index_of("node_1"), Node.Call("tanh", ["x"]))
    assert graph.op(extra).parent_op() is graph.op(graph.index_of("node_2"))
    seen = []
    manager = PassManager()
    manager.add_pass(torsh_fx.DeadCodeEliminationPass())
    runs = manager.run(graph, lambda run, graph: seen.append((run.name, run.seconds >= 0)))
    assert seen == [("dead_code_elimination", True)]
    assert runs[0].changed
    calls = [n.operation for _, n in graph.nodes() if isinstance(n, Node.Call)]
    assert calls == ["greater", "exp"]
    np.testing.assert_array_equal(value(graph, np.float32(1))[0], np.exp(np.float32(1)))
