"""What extents of broadcasts and reshapes must be: checked in every call, and said in words."""

import numpy as np
import pytest
from onnx import TensorProto as Type
from onnx import helper, numpy_helper

import torsh_fx
from lowering.cpu.host import host_target
from torsh_dialect.context import Context
from torsh_dialect.errors import ImportModelError, InputError, UnsupportedError
from torsh_fx.shapes import onnx_facts


def model(nodes, shapes, stored=(), outputs=(("y", Type.FLOAT),)):
    """An ONNX model of f32 inputs with these extents."""
    ends = [helper.make_tensor_value_info(n, Type.FLOAT, dims) for n, dims in shapes.items()]
    results = [helper.make_tensor_value_info(name, type, None) for name, type in outputs]
    graph = helper.make_graph(nodes, "g", ends, results, list(stored))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def expand(x, target):
    """Input z of extents `x` expanded to the shape of input t, of extents `target`."""
    nodes = [helper.make_node("Shape", ["t"], ["s"]), helper.make_node("Expand", ["z", "s"], ["y"])]
    return model(nodes, {"t": list(target), "z": list(x)})


@pytest.mark.parametrize(("x", "target"), [("c", "a"), ("a", "c")])
def test_expand_refuses_extents_that_do_not_broadcast(x, target):
    """Whatever the order of the names: each could be the 1."""
    f = torsh_fx.compile(expand([x], [target]), cache=False)
    rng = np.random.default_rng(3)
    for n in (0, 1, 3, 5):
        for m in (0, 1, 3, 5):
            t, z = np.zeros(n, np.float32), rng.standard_normal(m).astype(np.float32)
            if n == m or 1 in (n, m):
                expected = z * np.ones(n, np.float32)
                np.testing.assert_array_equal(f(t, z), expected)
            else:
                with pytest.raises(InputError, match="must be 1 or equal"):
                    f(t, z)


def facts(proto):
    """Kind and reason of each axis."""
    found = onnx_facts(proto, Context(target=host_target()))
    return {(fact.name, fact.axis): (fact.kind, fact.reason.partition(",")[0]) for fact in found}


def test_broadcasts_are_said_in_words():
    found = facts(
        model([helper.make_node("Add", ["x", "z"], ["y"])], {"x": ["a", 4], "z": ["b", 4]})
    )
    assert found["x", 0] == found["z", 0]
    assert found["x", 0] == ("bounded", "a and b must be equal")
    assert found["x", 1] == ("fixed", "declared so; axis 1 of x and axis 1 of z must be equal")


def test_divisibility_is_said_in_words():
    stored = [numpy_helper.from_array(np.array([-1, 6]), "s")]
    found = facts(
        model([helper.make_node("Reshape", ["x", "s"], ["y"])], {"x": ["a", "b"]}, stored)
    )
    assert found["x", 1] == ("bounded", "a*b must be a multiple of 6")


def test_what_is_expanded_may_be_one():
    found = facts(expand(["c", 1], ["a", "b"]))
    assert found["z", 0] == ("bounded", "a and c must be equal")
    assert found["t", 1] == ("free", "")


def test_a_quotient_of_extents_is_summed():
    """4 heads of d // 4 columns each: the extent has no value where n * t is 0."""
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[0, 2, 1, 3]),
        helper.make_node("MatMul", ["t", "w"], ["y"]),
    ]
    stored = [numpy_helper.from_array(np.array([0, 0, 4, -1]), "s")]
    f = torsh_fx.compile(
        model(nodes, {"x": ["n", "m", "d"], "w": ["n", 4, "e", "k"]}, stored), cache=False
    )
    rng = np.random.default_rng(5)
    for n, m, e, k in ((1, 1, 1, 1), (2, 3, 5, 7), (1, 8, 2, 3)):
        x = rng.standard_normal((n, m, 4 * e)).astype(np.float32)
        w = rng.standard_normal((n, 4, e, k)).astype(np.float32)
        expected = x.reshape(n, m, 4, e).transpose(0, 2, 1, 3).astype(np.float64) @ w
        np.testing.assert_allclose(f(x, w), expected, atol=1e-5)


def test_wrong_declared_elements_are_a_finding():
    proto = model([helper.make_node("Relu", ["x"], ["y"])], {"x": [2]}, (), (("y", Type.INT32),))
    with pytest.raises(
        UnsupportedError, match=r"y.*declared i32, the model computes f32"
    ) as caught:
        torsh_fx.compile(proto, cache=False)
    assert len(caught.value.findings) == 1


def test_findings_of_both_branches_are_listed():
    branches = {}
    for key, name in (("then_branch", "Foo"), ("else_branch", "Bar")):
        result = helper.make_tensor_value_info(name, Type.FLOAT, [2])
        node = helper.make_node(name, ["x"], [name], domain="own")
        branches[key] = helper.make_graph([node], name, [], [result])
    proto = model([helper.make_node("If", ["k"], ["y"], **branches)], {"x": [2]})
    proto.graph.input.append(helper.make_tensor_value_info("k", Type.BOOL, []))
    proto.opset_import.append(helper.make_opsetid("own", 1))
    with pytest.raises(UnsupportedError) as caught:
        torsh_fx.compile(proto, cache=False)
    assert [finding.op for finding in caught.value.findings] == ["own::Foo-1", "own::Bar-1"]


def test_very_many_axes_are_one_finding():
    node = helper.make_node("Unsqueeze", ["x", "axes"], ["y"])
    stored = [numpy_helper.from_array(np.arange(100_000), "axes")]
    with pytest.raises(UnsupportedError, match="the most are 64"):
        torsh_fx.compile(model([node], {"x": [2]}, stored), cache=False)


def test_negative_extents_of_weights_are_an_error():
    stored = numpy_helper.from_array(np.zeros((0, 3), np.float32), "w")
    stored.dims[0] = -2
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": [2, 3]}, [stored])
    with pytest.raises(ImportModelError, match=r"'w' has negative extents \[-2, 3\]"):
        torsh_fx.compile(proto, cache=False)
