"""`OnnxImporter`, the mapper, and ONNX's backend interface."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import torsh_fx
from torsh_fx import FxGraph, Node, OnnxImporter, OnnxOperationMapper
from torsh_fx.errors import ImportModelError, InvalidArgumentError, UnsupportedError
from torsh_fx.onnx_backend import TorshBackend

X = np.array([[-1.0, 2.0, 0.5]], np.float32)


def model_of(*nodes, opsets=(("", 17),)):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
    )
    imports = [helper.make_opsetid(*one) for one in opsets]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


CUSTOM = model_of(
    helper.make_node("CustomOp", ["x"], ["c"], domain="my.ops", factor=2.5),
    helper.make_node("Relu", ["c"], ["y"]),
    opsets=(("", 17), ("my.ops", 1)),
)


def test_the_mapper_knows_the_guides_operators():
    mapper = OnnxOperationMapper()
    assert len(mapper.mappings) == 17
    assert mapper.map_operation("Conv") == "conv2d"
    assert mapper.map_operation("GlobalAveragePool") == "global_avg_pool2d"
    assert mapper.map_operation("Nothing") is None


def test_import_from_file(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(model_of(helper.make_node("Tanh", ["x"], ["y"])), path)
    graph = OnnxImporter().import_from_file(str(path))
    assert isinstance(graph, FxGraph)
    assert [n for _, n in graph.nodes()] == [
        Node.Input("x"),
        Node.Call("tanh", ["x"]),
        Node.Output("node_0"),
    ]
    with pytest.raises(ImportModelError):
        OnnxImporter().import_from_file(tmp_path / "none.onnx")


@pytest.mark.parametrize("domain", ["my.ops", None])
def test_a_custom_operator_becomes_an_operation(domain):
    seen = []

    def meaning(inputs, attributes):
        seen.append((inputs, attributes))
        return "custom_torsh_op"

    importer = OnnxImporter()
    importer.register_custom_op("CustomOp", meaning, domain)
    importer.register_operation(
        "custom_torsh_op", lambda call: call.c.mul(call.argument(0), call.real("factor", default=1))
    )
    graph = importer.import_model(CUSTOM)
    assert seen == [(["x"], {"factor": 2.5})]
    np.testing.assert_array_equal(torsh_fx.compile(graph)(X), np.maximum(X * np.float32(2.5), 0))


def test_a_custom_operator_becomes_what_a_function_builds():
    importer = OnnxImporter()
    importer.register_custom_op(
        "CustomOp", lambda inputs, attributes: lambda call: call.c.neg(call.argument(0)), "my.ops"
    )
    model = CUSTOM.__class__()
    model.CopyFrom(CUSTOM)
    del model.graph.node[0].attribute[:]
    graph = importer.import_model(model)
    np.testing.assert_array_equal(torsh_fx.compile(graph)(X), np.maximum(-X, 0))


def test_errors_of_custom_operators_are_findings():
    with pytest.raises(UnsupportedError, match=r"my\.ops::CustomOp"):
        OnnxImporter().import_model(CUSTOM)
    importer = OnnxImporter()
    importer.register_custom_op("CustomOp", lambda inputs, attributes: "relu", "my.ops")
    with pytest.raises(UnsupportedError, match="relu has no options factor"):
        importer.import_model(CUSTOM)


def test_the_backend_runs_models_and_nodes():
    model = model_of(helper.make_node("Exp", ["x"], ["y"]))
    assert TorshBackend.supports_device("CPU")
    assert not TorshBackend.supports_device("CUDA")
    assert TorshBackend.is_compatible(model)
    assert not TorshBackend.is_compatible(CUSTOM)
    outputs = TorshBackend.prepare(model).run([X])
    np.testing.assert_allclose(outputs["y"], np.exp(X), rtol=1e-6)
    (total,) = TorshBackend.run_node(helper.make_node("Add", ["a", "b"], ["c"]), [X, X])
    np.testing.assert_array_equal(total, X + X)
    with pytest.raises(InvalidArgumentError, match="no options speed"):
        TorshBackend.prepare(model, speed=2)
    with pytest.raises(InvalidArgumentError, match="'CUDA' is not supported"):
        TorshBackend.prepare(model, "CUDA")


@pytest.mark.parametrize(
    ("node", "shapes"),
    [
        (helper.make_node("Softmax", ["x"], ["y"], axis=1), [(2, 3, 4)]),
        (helper.make_node("MatMul", ["a", "b"], ["y"]), [(2, 3, 4), (4, 5)]),
        (helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2]), [(1, 3, 7, 5), (4, 3, 3, 3)]),
        (helper.make_node("Clip", ["x", "", "h"], ["y"]), [(5,), ()]),
    ],
    ids=lambda v: getattr(v, "op_type", None),
)
def test_nodes_equal_the_reference(node, shapes):
    rng = np.random.default_rng(0)
    inputs = [np.asarray(rng.standard_normal(s), np.float32) for s in shapes]
    expected = ReferenceEvaluator(node).run(
        None, dict(zip([n for n in node.input if n], inputs, strict=True))
    )
    for mine, wanted in zip(TorshBackend.run_node(node, inputs), expected, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-5, atol=1e-6)
