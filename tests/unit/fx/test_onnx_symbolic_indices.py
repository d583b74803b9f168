"""Operators whose rank or parts hang on an extent that only the run knows.

The oracle is onnx's reference evaluator.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator

import torsh_fx
from torsh_dialect.errors import TorshError, UnsupportedError

F, INT = TensorProto.FLOAT, TensorProto.INT64
Declared = tuple[str, int, list[str | int]]


def one_node(op: str, inputs: Sequence[Declared], **attributes: int) -> ModelProto:
    node = helper.make_node(op, [name for name, _, _ in inputs], ["y"])
    node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(name, type, dims) for name, type, dims in inputs],
        [helper.make_tensor_value_info("y", F, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def agree(model: ModelProto, *calls: Sequence[np.ndarray]) -> None:
    compiled, reference = torsh_fx.compile(model), ReferenceEvaluator(model)
    names = [i.name for i in model.graph.input]
    for given in calls:
        (wanted,) = reference.run(None, dict(zip(names, given, strict=True)))
        got = compiled(*given)
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, atol=2e-6)


def floats(*dims: int) -> np.ndarray:
    return np.random.default_rng(sum(dims)).standard_normal(dims, np.float32)


def places(extent: int, *dims: int) -> np.ndarray:
    return np.random.default_rng(extent).integers(-extent, extent, dims)


def test_gather_nd_in_the_one_axis_that_is_left():
    model = one_node("GatherND", [("x", F, ["a"]), ("i", INT, ["n", "k"])])
    agree(model, (floats(4), places(4, 6, 1)), (floats(1), places(1, 3, 1)))
    with pytest.raises(TorshError, match=r"k.*2|2.*k"):
        torsh_fx.compile(model)(floats(4), places(4, 6, 2))


def test_gather_nd_of_unknown_rank_says_why():
    model = one_node("GatherND", [("x", F, ["a", 3]), ("i", INT, ["n", "k"])])
    with pytest.raises(UnsupportedError, match=r"last extent of the indices is k.*the rank of the"):
        torsh_fx.compile(model)


@pytest.mark.parametrize(("count", "update"), [(2, (3,)), (1, (5, 3))])
def test_scatter_nd_takes_the_number_of_axes_from_the_ranks(count: int, update: tuple[int, ...]):
    symbols: list[str | int] = ["n", "q", "r"]
    inputs: list[Declared] = [
        ("x", F, ["a", "b", 3]),
        ("i", INT, ["n", "k"]),
        ("u", F, symbols[: 1 + len(update)]),
    ]
    given = np.array([[0, 1], [3, 2]])[:, :count], floats(2, *update)
    agree(one_node("ScatterND", inputs), (floats(4, 5, 3), *given))
    impossible = one_node("ScatterND", [*inputs[:2], ("u", F, ["n", "q", "r", "s"])])
    with pytest.raises(UnsupportedError, match="updates of rank 4 do not fit"):
        torsh_fx.compile(impossible)


@pytest.mark.parametrize(("inverse", "onesided"), [(0, 0), (0, 1), (1, 0)])
def test_dft_of_parts_that_only_the_run_knows(inverse: int, onesided: int):
    inputs: list[Declared] = [("x", F, ["b", "n", "c"])]
    model = one_node("DFT", inputs, inverse=inverse, onesided=onesided)
    parts = (1,) if onesided else (1, 2)  # a transform of one side is that of a real signal
    agree(model, *[(floats(2, n, c),) for n in (1, 5, 8) for c in parts])
    with pytest.raises(TorshError, match="3"):
        torsh_fx.compile(model)(floats(2, 5, 3))
