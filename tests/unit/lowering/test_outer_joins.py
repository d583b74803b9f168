"""Joins along outer axes and norms over several, of sizes that only the run knows: numpy, torch.

Chunks and lanes of runs are borders: extents go over and under them.
"""

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

import torsh_fx

SIZES = [(0, 3, 2), (1, 1, 1), (2, 0, 5), (3, 5, 7), (2, 61, 33), (1, 64, 64), (3, 129, 37)]


def model(op: str, inputs: dict[str, tuple[str, tuple[Any, ...]]], **attributes: Any) -> Any:
    node = helper.make_node(op, list(inputs), ["y"], **attributes)
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), dims)
        for name, (kind, dims) in inputs.items()
    ]
    graph = helper.make_graph([node], "g", infos, [onnx.ValueInfoProto(name="y")])
    graph = onnx.shape_inference.infer_shapes(helper.make_model(graph)).graph
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def values(kind: str, *dims: int) -> Any:
    return np.random.default_rng(sum(dims)).integers(-9, 9, dims).astype(kind)


@pytest.mark.parametrize("kind", ["float32", "float16", "int8", "bool", "complex64"])
@pytest.mark.parametrize("threads", [1, 3])
def test_three_operands_in_the_middle(kind: str, threads: int) -> None:
    dims = {"a": ("n", "m", "p"), "b": ("n", 2, "p"), "c": ("n", "m", "p")}
    inputs = {name: (kind, own) for name, own in dims.items()}
    f = torsh_fx.compile(model("Concat", inputs, axis=1), threads=threads)
    for n, m, p in SIZES:
        parts = [values(kind, n, m, p), values(kind, n, 2, p), values(kind, n, m, p)]
        found = np.asarray(f(*parts))
        assert np.array_equal(found, np.concatenate(parts, 1))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_tensor_twice(axis: int) -> None:
    inputs = {"a": ("float32", ("n", "m", "p"))}
    twice = model("Concat", inputs, axis=axis)
    twice.graph.node[0].input.append("a")
    f = torsh_fx.compile(twice)
    for n, m, p in SIZES:
        x = values("float32", n, m, p)
        assert np.array_equal(np.asarray(f(x)), np.concatenate([x, x], axis))


@pytest.mark.parametrize(
    "dims", [((3, 5, 7), 1), ((1, 70, 64), 0), ((4, 1, 1), 1), ((2, 9, 500), 1)]
)
def test_known_sizes(dims: tuple[tuple[int, int, int], int]) -> None:
    own, axis = dims
    parts = [values("float32", *own), values("float32", *own)]
    f = torsh_fx.compile(model("Concat", {n: ("float32", own) for n in "ab"}, axis=axis))
    assert np.array_equal(np.asarray(f(*parts)), np.concatenate(parts, axis))


def test_norm_over_axes_of_unknown_extent() -> None:
    inputs = {"x": ("float32", ("n", "m", 32)), "s": ("float32", ("m", 32))}
    f = torsh_fx.compile(model("LayerNormalization", inputs, axis=-2))
    for n, m in [(0, 3), (1, 1), (7, 13), (5, 67)]:
        rng = np.random.default_rng(m)
        x, s = (rng.standard_normal(d).astype(np.float32) for d in ((n, m, 32), (m, 32)))
        wide, scale = (torch.tensor(v, dtype=torch.float64) for v in (x, s))
        exact = torch.nn.functional.layer_norm(wide, (m, 32), scale)
        assert np.allclose(np.asarray(f(x, s)), exact.numpy(), rtol=0, atol=3e-6)


def test_axes_of_unknown_extent_that_are_not_repeated() -> None:
    inputs = {"x": ("float32", ("n", 1, "m")), "y": ("int64", (3,))}
    repeat = model("Expand", inputs)
    del repeat.graph.input[1]
    repeat.graph.node[0].input[1] = "target"
    repeat.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray([1, 7, 1]), "target"))
    f = torsh_fx.compile(repeat)
    for n, m in [(0, 5), (1, 1), (7, 13), (61, 67)]:
        x = values("float32", n, 1, m)
        assert np.array_equal(np.asarray(f(x)), np.broadcast_to(x, (n, 7, m)))
