"""`OnnxImporter`, the mapper, and ONNX's backend interface."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
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


def test_what_a_users_code_raises_is_told():
    """Type and message, node, file and line; the error itself is the cause."""

    class MissingTableError(LookupError):
        pass

    def meaning(inputs, attributes):
        raise MissingTableError("no table for scale 3")

    importer = OnnxImporter()
    importer.register_custom_op("CustomOp", meaning, "my.ops")
    place = r"\(at .*test_api_onnx\.py:\d+, in meaning\)"
    says = rf"my\.ops::CustomOp.*MissingTableError: no table for scale 3 {place}"
    with pytest.raises(UnsupportedError, match=says) as caught:
        importer.import_model(CUSTOM)
    assert isinstance(caught.value.__cause__, MissingTableError)


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


MAPPED = [
    ("Add", [(2, 3), (3,)], {}),
    ("Sub", [(2, 3), (3,)], {}),
    ("Mul", [(2, 3), (3,)], {}),
    ("Div", [(2, 3), (3,)], {}),
    ("MatMul", [(2, 3), (3, 4)], {}),
    ("Relu", [(2, 3)], {}),
    ("Sigmoid", [(2, 3)], {}),
    ("Tanh", [(2, 3)], {}),
    ("Softmax", [(2, 3)], {"axis": 0}),
    ("Conv", [(1, 3, 6, 6), (4, 3, 3, 3)], {"pads": [1, 1, 1, 1]}),
    ("MaxPool", [(1, 3, 6, 6)], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("GlobalAveragePool", [(1, 3, 6, 6)], {}),
    ("BatchNormalization", [(2, 3, 4, 4), *[(3,)] * 4], {"epsilon": 1e-3}),
    ("Reshape", [(2, 6)], {}),
    ("Transpose", [(2, 3, 4)], {"perm": [2, 0, 1]}),
    ("Concat", [(2, 3), (4, 3)], {"axis": 0}),
    ("Split", [(6, 2)], {"axis": 0, "num_outputs": 2}),
]


@pytest.mark.parametrize(("operator", "shapes", "attributes"), MAPPED, ids=lambda v: str(v)[:12])
def test_every_mapped_operator_imports_as_its_operation(operator, shapes, attributes):
    rng = np.random.default_rng(0)
    arrays = [rng.random(s, np.float32) + np.float32(0.5) for s in shapes]
    names = [f"x{n}" for n in range(len(arrays))]
    inputs = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
        for n, s in zip(names, shapes, strict=True)
    ]
    stored = []
    if operator == "Reshape":
        stored = [numpy_helper.from_array(np.array([3, -1]), "shape")]
    outputs = ["y", "z"] if operator == "Split" else ["y"]
    node = helper.make_node(operator, [*names, *(s.name for s in stored)], outputs, **attributes)
    graph = helper.make_graph(
        [node], "g", inputs, [helper.make_empty_tensor_value_info(o) for o in outputs], stored
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    imported = OnnxImporter().import_model(model)
    operations = [n.operation for _, n in imported.nodes() if isinstance(n, Node.Call)]
    assert operations == [OnnxOperationMapper().map_operation(operator)]
    for index, one in list(imported.nodes()):  # what is shown can be put back
        if isinstance(one, Node.Call):
            imported.set_node(index, one)
    found = torsh_fx.compile(imported)(*arrays)
    expected = ReferenceEvaluator(model).run(None, dict(zip(names, arrays, strict=True)))
    for mine, wanted in zip(found if len(outputs) > 1 else [found], expected, strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-5, atol=1e-6)


def test_the_mapped_operators_are_all_tested():
    assert {row[0] for row in MAPPED} == set(OnnxOperationMapper().mappings)
