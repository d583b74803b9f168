"""Extents that only a call knows: 1 against more, negative divisors, too few elements.

Oracles: numpy, the ONNX reference evaluator, and onnxruntime where it refuses a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from torsh_dialect.errors import TorshError
from torsh_fx.compiler import compile as compile_model

make = helper.make_node
Dims = Sequence[int | str]


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[int, Dims]],
    weights: dict[str, Any] | None = None,
) -> onnx.ModelProto:
    """A model of opset 18 with the one output `y`; inputs have a type and extents."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(name, *of) for name, of in inputs.items()],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


PRODUCTS: list[tuple[Dims, Dims, list[tuple[tuple[int, ...], tuple[int, ...]]]]] = [
    ([2, "m", "k"], ["b", 3, "n"], [((2, 4, 3), (1, 3, 3)), ((2, 5, 3), (2, 3, 7))]),
    (["a", 4, 3], ["b", 3, 5], [((1, 4, 3), (6, 3, 5)), ((6, 4, 3), (1, 3, 5))]),
    (["a", 4, 33], ["b", 33, 65], [((1, 4, 33), (5, 33, 65)), ((5, 4, 33), (1, 33, 65))]),
    (["a", "m", 31], [3, 31, 40], [((1, 50, 31), (3, 31, 40)), ((3, 1, 31), (3, 31, 40))]),
    ([5, 2, 44, 33], ["a", "b", 33, 9], [((5, 2, 44, 33), (1, 2, 33, 9)),
                                         ((5, 2, 44, 33), (5, 1, 33, 9)),
                                         ((5, 2, 44, 33), (1, 1, 33, 9))]),
    (["a", 1, 7, "k"], ["b", "k", 6], [((3, 1, 7, 2), (4, 2, 6)), ((1, 1, 7, 2), (1, 2, 6))]),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right", "calls"), PRODUCTS)
def test_batches_of_products_broadcast(left: Dims, right: Dims, calls: list[Any]):
    inputs = {"a": (TensorProto.FLOAT, left), "b": (TensorProto.FLOAT, right)}
    compiled = compile_model(model_of([make("MatMul", ["a", "b"], ["y"])], inputs))
    for shapes in calls:
        a, b = (normal(*shape) for shape in shapes)
        np.testing.assert_allclose(compiled.run([a, b])[0], a @ b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("op", ["Mod", "Div"])
@pytest.mark.parametrize("divisor", [-3, -1, 3])
def test_an_extent_over_a_negative_number(op: str, divisor: int):
    """Div of negative integers truncates, Mod has the divisor's sign."""
    nodes = [make("Shape", ["x"], ["s"]), make(op, ["s", "d"], ["y"])]
    model = model_of(
        nodes, {"x": (TensorProto.FLOAT, ["n", 4])}, {"d": np.array([divisor], np.int64)}
    )
    compiled, oracle = compile_model(model), ReferenceEvaluator(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for count in (0, 1, 5, 6, 7, 101):
        x = np.zeros((count, 4), np.float32)
        wanted = session.run(None, {"x": x})[0]
        if op == "Mod":
            np.testing.assert_array_equal(wanted, oracle.run(None, {"x": x})[0])
        np.testing.assert_array_equal(compiled.run([x])[0], wanted)


def test_an_extent_modulo_one_that_is_negated():
    nodes = [
        make("Shape", ["x"], ["s"]), make("Gather", ["s", "zero"], ["n"]),
        make("Gather", ["s", "one"], ["m"]), make("Neg", ["m"], ["minus"]),
        make("Mod", ["n", "minus"], ["y"]),
    ]  # fmt: skip
    weights = {"zero": np.int64(0), "one": np.int64(1)}
    compiled = compile_model(model_of(nodes, {"x": (TensorProto.FLOAT, ["n", "m"])}, weights))
    for n, m in ((5, 3), (6, 3), (0, 2), (7, 1), (3, 11)):
        found = compiled.run([np.zeros((n, m), np.float32)])[0]
        assert int(found) == n % -m


def test_a_range_to_a_folded_limit():
    """The limit is a product of constants that no constant holds yet."""
    nodes = [make("Mul", ["a", "b"], ["limit"]), make("Range", ["zero", "limit", "step"], ["r"]),
             make("Add", ["r", "x"], ["y"])]  # fmt: skip
    weights = {"a": np.int64(2), "b": np.int64(3), "zero": np.int64(0), "step": np.int64(2)}
    model = model_of(nodes, {"x": (TensorProto.INT64, ["n", 1])}, weights)
    x = np.array([[1], [10]], np.int64)
    np.testing.assert_array_equal(compile_model(model).run([x])[0], np.arange(0, 6, 2) + x)


REFUSED: dict[str, tuple[onnx.ModelProto, tuple[int, ...], tuple[int, ...], str]] = {
    "topk": (
        model_of([make("TopK", ["x", "k"], ["y", "i"], name="top")],
                 {"x": (TensorProto.FLOAT, [8, "n"])}, {"k": np.array([4], np.int64)}),
        (8, 4), (8, 3), r"top.*n = 3",
    ),
    "gather elements": (
        model_of([make("GatherElements", ["x", "i"], ["y"], axis=0, name="pick")],
                 {"x": (TensorProto.FLOAT, [8, "n"])}, {"i": np.ones((2, 2), np.int64)}),
        (8, 2), (8, 1), r"pick.*n = 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", list(REFUSED))
def test_too_few_elements_are_refused_as_by_onnxruntime(case: str):
    model, good, bad, says = REFUSED[case]
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    compiled = compile_model(model)
    x = normal(*good)
    np.testing.assert_array_equal(compiled.run([x])[0], session.run(["y"], {"x": x})[0])
    with pytest.raises(Exception, match=r"(?i)k argument|out of bounds|dimension|invalid"):
        session.run(["y"], {"x": normal(*bad)})
    with pytest.raises(TorshError, match=says):
        compiled.run([normal(*bad)])


def test_more_indices_than_elements_are_refused_when_compiled():
    nodes = [make("GatherElements", ["x", "i"], ["y"], axis=0, name="pick")]
    inputs = {"x": (TensorProto.FLOAT, [8, 1])}
    model = model_of(nodes, inputs, {"i": np.ones((2, 2), np.int64)})
    with pytest.raises(TorshError, match="pick"):
        compile_model(model)
