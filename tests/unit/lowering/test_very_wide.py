"""Graphs of very many operands and ops: right, and of a bounded number of kernels."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import torsh_fx
from lowering.program.memory import Lifetime, aligned, plan

F = TensorProto.FLOAT


def wide_node(op: str, count: int, axis: int | None = None) -> ModelProto:
    """`op` of `count` inputs [n, 3], whose rows are symbolic."""
    names = [f"x{i}" for i in range(count)]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], axis=axis)],
        "g",
        [helper.make_tensor_value_info(name, F, ["n", 3]) for name in names],
        [helper.make_tensor_value_info("y", F, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def inputs(count: int, rows: int) -> list[np.ndarray]:
    rng = np.random.default_rng(count)
    return [rng.standard_normal((rows, 3), np.float32) for _ in range(count)]


@pytest.mark.parametrize(("count", "axis"), [(4100, 0), (70, 1)])
def test_a_join_of_very_many(count: int, axis: int):
    """Up to three levels of steps, none of more than 64 operands, equal ones of one kernel."""
    compiled = torsh_fx.compile(wide_node("Concat", count, axis=axis))
    assert compiled.report.kernels <= 8
    for rows in (1, 2):
        given = inputs(count, rows)
        np.testing.assert_array_equal(compiled(*given), np.concatenate(given, axis))


@pytest.mark.parametrize(("op", "whole"), [("Max", np.max), ("Sum", np.sum), ("Mean", np.mean)])
def test_many_operands_that_are_folded(op: str, whole: Callable[..., np.ndarray]):
    count = 300
    given = inputs(count, 2)
    got = torsh_fx.compile(wide_node(op, count))(*given)
    exact = whole(np.stack(given).astype(np.float64), axis=0)
    np.testing.assert_allclose(got, exact, atol=count * 2.0**-22)


def test_a_host_of_many_launches():
    """A host text above the limit is compiled another way and does the same."""
    count = 700
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((4, 4), np.float32) for _ in range(count)]
    nodes = [helper.make_node("MatMul", ["x", f"w{i}"], [f"a{i}"]) for i in range(count)]
    nodes.append(helper.make_node("Sum", [f"a{i}" for i in range(count)], ["y"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", F, ["n", 4])],
        [helper.make_tensor_value_info("y", F, None)],
        [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    x = rng.standard_normal((3, 4), np.float32)
    exact = x.astype(np.float64) @ np.sum(weights, axis=0, dtype=np.float64)
    np.testing.assert_allclose(torsh_fx.compile(model)(x), exact, atol=count * 2.0**-20)


def test_places_of_buffers_never_overlap():
    """No two buffers that are needed at one step share a byte, and gaps are used."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        first = rng.integers(0, 30, 50)
        sizes = rng.choice([0, 1, 64, 100, 4096], 50)
        buffers = [
            Lifetime(n, int(size), int(at), int(at + rng.integers(0, 9)))
            for n, (size, at) in enumerate(zip(sizes, first, strict=True))
        ]
        arena = plan(buffers)
        assert int(str(arena.size)) <= sum(int(str(aligned(b.size))) for b in buffers)
        for step in range(40):
            live = [b for b in buffers if b.first <= step <= b.last and b.size]
            ranges = sorted((int(str(arena.offsets[b.key])), int(str(b.size))) for b in live)
            assert all(a + size <= b for (a, size), (b, _) in pairwise(ranges))
