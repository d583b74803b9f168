"""Products by dequantised weights read 8 or 4 bits a weight, and are as exact as f32 products."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import torsh_fx
from lowering.cpu.templates.gemm_blocks import BlocksGemmParams
from lowering.passes.schedule_integer import ScheduleIntegerPass
from lowering.runtime.machine import NEEDED_FLAGS, machine_flags
from torsh_dialect.context import Context
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.evaluate import evaluate
from torsh_dialect.settings import Settings
from torsh_dialect.target import target_named
from torsh_fx.importers.onnx import import_onnx

TARGETS = [
    name
    for name in ("x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64")
    if NEEDED_FLAGS[name] <= machine_flags()
]
RANGES = {"INT4": (-8, 7), "UINT4": (0, 15), "INT8": (-128, 127), "UINT8": (0, 255)}
RNG = np.random.default_rng(23)


def weight_only(element, k, n, block, zero):
    """A model relu(x @ dequantised + bias) and its weights in float64; block 0: by column."""
    low, high = RANGES[element]
    q = RNG.integers(low, high + 1, (k, n))
    dims = (k // block, n) if block else (n,)
    scale = RNG.uniform(0.01, 0.02, dims).astype(np.float32)
    zeros = RNG.integers(low, high + 1, dims) if zero else np.zeros(dims, np.int64)
    kind = getattr(TensorProto, element)
    names = ["q", "scale", *(["zero"] if zero else [])]
    how = {"axis": 0, "block_size": block} if block else {"axis": 1}
    nodes = [
        helper.make_node("DequantizeLinear", names, ["w"], **how),
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "bias"], ["a"]),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    bias = RNG.standard_normal(n).astype(np.float32)
    weights = [
        helper.make_tensor("q", kind, (k, n), q.reshape(-1)),
        numpy_helper.from_array(scale, "scale"),
        numpy_helper.from_array(bias, "bias"),
    ]
    if zero:
        weights.append(helper.make_tensor("zero", kind, dims, zeros.reshape(-1)))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, ["rows", k])],
        [value("y", TensorProto.FLOAT, None)], weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    wide = [np.repeat(v.astype(np.float64), block, axis=0) if block else v for v in (scale, zeros)]
    return model, (q - wide[1]) * wide[0], bias


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("element", "k", "n", "block", "zero"),
    [
        ("INT4", 128, 96, 32, False),
        ("UINT4", 64, 21, 16, True),
        ("INT8", 700, 40, 0, False),
        ("UINT8", 96, 33, 32, True),
        ("UINT8", 512, 17, 0, False),
    ],
)
def test_products_of_weights_in_blocks(target, element, k, n, block, zero):
    model, weight, bias = weight_only(element, k, n, block, zero)
    compiled = torsh_fx.compile(model, target=target)
    assert "torsh.packed_linear_blocks" in str(compiled.optimised)
    for rows in (1, 2, 7, 14):
        x = RNG.standard_normal((rows, k)).astype(np.float32)
        expected = np.maximum(x.astype(np.float64) @ weight + bias, 0)
        error = np.abs(compiled.run([x])[0] - expected)
        scale = np.abs(x.astype(np.float64)) @ np.abs(weight)
        assert (error <= 3e-7 * scale + 1e-6).all(), error.max()


def test_the_packed_op_means_the_same():
    model, weight, bias = weight_only("UINT4", 64, 21, 16, True)
    ctx = Context(target=target_named("x86-64-v3"))
    imported = import_onnx(model, ctx)
    ScheduleIntegerPass().apply(ctx, imported.module)
    imported.module.verify()
    assert "bits = 4" in str(imported.module)
    x = RNG.standard_normal((3, 64)).astype(np.float32)
    (actual,) = evaluate(imported.module, [x], imported.weights)
    np.testing.assert_allclose(
        actual, np.maximum(x.astype(np.float64) @ weight + bias, 0), rtol=1e-4, atol=1e-4
    )


def test_strict_numerics_dequantise_at_compile_time():
    model, _, _ = weight_only("INT4", 128, 96, 32, False)
    compiled = torsh_fx.compile(model, settings=Settings(numerics="strict"))
    assert "torsh.packed_linear " in str(compiled.optimised)


@pytest.mark.parametrize(("block", "run"), [(32, 32), (256, 256), (4096, 256), (700, 175)])
def test_long_blocks_are_cut_into_chains(block, run):
    assert BlocksGemmParams(8, block * 2, block).run == run


def test_blocks_that_do_not_fit_are_refused():
    with pytest.raises(InvalidArgumentError, match="blocks of 48 steps"):
        BlocksGemmParams(8, 100, 48)
    with pytest.raises(InvalidArgumentError, match="4 bits"):
        BlocksGemmParams(8, 99, 33, bits=4)
