"""Compiled models with sequences, optional values and strings, against the ONNX reference."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper as onh
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

import torsh_fx
from torsh_dialect.errors import InputError, UnsupportedError
from torsh_fx.hosted import HostedModule

FLOAT, INT64, STRING = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.STRING


def model_of(nodes, inputs, outputs, weights=()) -> onnx.ModelProto:
    initializers = [onh.from_array(array, name) for name, array in dict(weights).items()]
    graph = oh.make_graph(nodes, "g", inputs, outputs, initializers)
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 20)], ir_version=10)


def tensor(name, dims, element=FLOAT):
    return oh.make_tensor_value_info(name, element, dims)


def check(model: onnx.ModelProto, *inputs) -> HostedModule:
    names = [one.name for one in model.graph.input]
    expected = ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))
    compiled = torsh_fx.compile(model)
    assert isinstance(compiled, HostedModule)
    for mine, theirs in zip(compiled.run(list(inputs)), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5)
    return compiled


def growing(nodes) -> onnx.GraphProto:
    """The body of a loop that puts `item`, which nodes make in step i, behind the sequence s."""
    rest = [
        oh.make_node("SequenceInsert", ["s", "item"], ["s2"]),
        oh.make_node("Identity", ["c"], ["c2"]),
    ]
    flag, kept = onnx.TensorProto.BOOL, oh.make_tensor_sequence_value_info
    inputs = [tensor("i", [], INT64), tensor("c", [], flag), kept("s", FLOAT, None)]
    outputs = [tensor("c2", [], flag), kept("s2", FLOAT, None)]
    return oh.make_graph([*nodes, *rest], "body", inputs, outputs)


def branchy_loop() -> onnx.ModelProto:
    """Adds i * x @ w to a sequence in each of n steps, then joins what is there."""
    body = growing(
        [
            oh.make_node("Cast", ["i"], ["f"], to=FLOAT),
            oh.make_node("Mul", ["x", "f"], ["xf"]),
            oh.make_node("MatMul", ["xf", "w"], ["item"]),
        ]
    )
    nodes = [
        oh.make_node("Relu", ["a"], ["x"]),
        oh.make_node("SequenceConstruct", ["x"], ["s0"]),
        oh.make_node("Loop", ["n", "go", "s0"], ["s1"], body=body),
        oh.make_node("ConcatFromSequence", ["s1"], ["joined"], axis=0),
        oh.make_node("Exp", ["joined"], ["y"]),
    ]
    w = np.random.default_rng(1).standard_normal((3, 3)).astype(np.float32)
    inputs = [tensor("a", ["batch", 3]), tensor("n", [], INT64)]
    return model_of(nodes, inputs, [tensor("y", ["rows", 3])], {"w": w, "go": np.array(True)})


@pytest.mark.parametrize("steps", [0, 1, 4])
@pytest.mark.parametrize("batch", [1, 5])
def test_a_loop_that_grows_a_sequence(steps, batch):
    a = np.random.default_rng(0).standard_normal((batch, 3)).astype(np.float32)
    compiled = check(branchy_loop(), a, np.array(steps))
    assert "torsh.sequence_insert" in compiled.host_ops
    assert not {"torsh.matmul", "torsh.exp", "torsh.relu"} & set(compiled.host_ops)


@pytest.mark.parametrize("steps", [1, 3])
def test_slices_of_lengths_that_data_gives(steps):
    """Item i of the sequence is the first i + 1 elements of a."""
    body = growing(
        [
            oh.make_node("Add", ["i", "one"], ["n1"]),
            oh.make_node("Unsqueeze", ["n1", "zero"], ["end"]),
            oh.make_node("Slice", ["a", "zero", "end"], ["item"]),
        ]
    )
    nodes = [
        oh.make_node("SequenceConstruct", ["a"], ["s0"]),
        oh.make_node("Loop", ["n", "go", "s0"], ["s1"], body=body),
        oh.make_node("ConcatFromSequence", ["s1"], ["y"], axis=0),
    ]
    weights = {"go": np.array(True), "one": np.array(1), "zero": np.array([0])}
    inputs = [tensor("a", [4]), tensor("n", [], INT64)]
    model = model_of(nodes, inputs, [tensor("y", ["rows"])], weights)
    check(model, np.arange(4, dtype=np.float32), np.array(steps))


def test_new_weights_reach_native_functions():
    model = branchy_loop()
    compiled = torsh_fx.compile(model)
    a = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    (name,) = [n for n in compiled.weights if compiled.weights[n].shape == (3, 3)]
    compiled.update_weights({name: np.eye(3, dtype=np.float32)})
    model.graph.initializer[0].CopyFrom(onh.from_array(np.eye(3, dtype=np.float32), "w"))
    (expected,) = ReferenceEvaluator(model).run(None, {"a": a, "n": np.array(2)})
    np.testing.assert_allclose(compiled.run([a, np.array(2)])[0], expected, rtol=1e-5)


def test_strings_beside_numbers():
    nodes = [
        oh.make_node("StringSplit", ["text"], ["words", "counts"], delimiter=" "),
        oh.make_node("Cast", ["counts"], ["f"], to=FLOAT),
        oh.make_node("Add", ["f", "x"], ["y"]),
    ]
    model = model_of(
        nodes,
        [tensor("text", [2], STRING), tensor("x", [2])],
        [tensor("words", [2, "most"], STRING), tensor("y", [2])],
    )
    compiled = torsh_fx.compile(model)
    words, y = compiled.run([np.array(["a b c", "d"]), np.array([10, 20], np.float32)])
    assert words.tolist() == [["a", "b", "c"], ["d", "", ""]]
    np.testing.assert_array_equal(y, [13, 21])


def test_what_a_hosted_model_cannot_do_is_refused():
    compiled = torsh_fx.compile(branchy_loop())
    a, n = np.ones((1, 3), np.float32), np.array(1)
    with pytest.raises(UnsupportedError, match="run_into needs a wholly native model"):
        compiled.run_into([a, n], [np.empty((2, 3), np.float32)])
    with pytest.raises(UnsupportedError, match="profile needs"):
        compiled.profile(a, n)
    with pytest.raises(InputError, match="the inputs are a, n"):
        compiled.run({"a": a})


def test_calls_take_and_give_sequences_of_arrays_and_of_tensors():
    """Items of one extent and of several; a missing optional value."""
    torch = pytest.importorskip("torch")
    model = parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
      g (seq(float[n]) s, optional(float[k]) o, float[2] w)
        => (seq(float[n]) t, bool h, optional(float[k]) o2) {
        t = SequenceInsert(s, w) h = OptionalHasElement(o) o2 = Identity(o)
      }""")
    compiled, w = torsh_fx.compile(model), np.ones(2, np.float32)
    for lengths in ([2, 3], [2, 2], []):
        items = [np.arange(n, dtype=np.float32) for n in lengths]
        grown, has, rest = compiled(items, None, w)
        assert [v.tolist() for v in grown] == [v.tolist() for v in [*items, w]]
        assert (bool(has), rest) == (False, None)
        tensors = [torch.from_numpy(v) for v in items]
        grown, has, rest = compiled(tensors, torch.ones(3), w=torch.from_numpy(w))
        assert all(isinstance(v, torch.Tensor) for v in grown)
        assert [v.tolist() for v in grown] == [v.tolist() for v in [*items, w]]
        assert bool(has)
        assert rest.tolist() == [1.0, 1.0, 1.0]
