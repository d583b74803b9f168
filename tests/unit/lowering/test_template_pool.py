"""Pooling and global mean against torch in float64."""

import numpy as np
import pytest
import torch

from lowering.cpu import jit
from lowering.cpu.templates import pool
from lowering.cpu.templates.window import Axis
from lowering.cpu.text import Module, Text
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.target import TARGETS

RUNNABLE = [TARGETS[n] for n in ("x86-64-v2", "x86-64-v3", "x86-64-v4")]
RUNNABLE = [target for target in RUNNABLE if jit.runs_here(target)]
F = torch.nn.functional

pytestmark = pytest.mark.skipif(not RUNNABLE, reason="no x86-64 target runs here")


@pytest.fixture(params=RUNNABLE, ids=lambda target: target.name)
def target(request):
    return request.param


def run(params, target, x):
    module = Module()
    pool.emit(module, "pool", params, target)
    kernel = jit.compile_module(module, target, ["pool"]).kernel("pool")
    batch, height, width, channels = x.shape
    dims = (params.vertical.output(height), params.horizontal.output(width))
    y = np.full((batch, *dims, channels), 7, x.dtype)
    units = pool.parallel_extent(params, target).value(batch * dims[0])
    for unit in range(units):
        kernel([x, 0, y, batch, height, width], unit, unit + 1)
    return y


GEOMETRY = [
    ((1, 8, 8, 16), 3, 2, 1, 1, False),
    ((2, 7, 9, 20), 2, 2, 1, 0, True),
    ((1, 15, 14, 100), 3, 2, 1, 1, True),
    ((1, 12, 12, 35), 3, 1, 2, 1, False),
    ((1, 6, 6, 7), 5, 3, 1, 2, True),
]


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize(("dims", "kernel", "stride", "dilation", "pad", "ceil"), GEOMETRY)
def test_max_pool(target, dims, kernel, stride, dilation, pad, ceil, static):
    x = np.random.default_rng(0).standard_normal(dims).astype(np.float32)
    x[0, 2, 3, :5] = np.nan
    x[0, 0, 0, 5:] = -np.inf
    axis = Axis(kernel, stride, dilation, pad, pad, ceil)
    params = pool.PoolParams(
        "max", dims[3], axis, axis, dims=(None, *dims[1:3]) if static else (None, None, None)
    )
    image = torch.from_numpy(x).permute(0, 3, 1, 2)
    expected = F.max_pool2d(image, kernel, stride, pad, dilation, ceil).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(run(params, target, x), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("channels", [3, 16, 40, 64, 160])
@pytest.mark.parametrize(("dims", "kernel", "stride", "dilation", "pad", "ceil"), GEOMETRY)
def test_max_pool_of_bytes(target, dims, kernel, stride, dilation, pad, ceil, channels, dtype):
    limits = np.iinfo(dtype)
    shape = (*dims[:3], channels)
    x = np.random.default_rng(2).integers(limits.min, limits.max + 1, shape).astype(dtype)
    x[:, :3, :3] = limits.min
    axis = Axis(kernel, stride, dilation, pad, pad, ceil)
    unsigned = dtype == np.uint8
    params = pool.PoolParams("max", channels, axis, axis, element="i8", unsigned=unsigned)
    image = torch.from_numpy(x.astype(np.float64)).permute(0, 3, 1, 2)
    expected = F.max_pool2d(image, kernel, stride, pad, dilation, ceil).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(run(params, target, x), expected)


@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize("divisor", [None, 3])
@pytest.mark.parametrize(
    ("dims", "kernel", "stride", "pad", "ceil"),
    [(d, k, s, p, c) for d, k, s, dilation, p, c in GEOMETRY if dilation == 1],
)
def test_avg_pool(target, dims, kernel, stride, pad, ceil, include, divisor):
    x = np.random.default_rng(1).standard_normal(dims).astype(np.float32)
    axis = Axis(kernel, stride, 1, pad, pad, ceil)
    params = pool.PoolParams("avg", dims[3], axis, axis, include, divisor)
    image = torch.from_numpy(x).double().permute(0, 3, 1, 2)
    expected = F.avg_pool2d(image, kernel, stride, pad, ceil, include, divisor)
    np.testing.assert_allclose(
        run(params, target, x), expected.permute(0, 2, 3, 1).numpy(), atol=2e-6
    )


@pytest.mark.parametrize("channels", [3, 32, 100])
@pytest.mark.parametrize("size", [(1, 1), (7, 7), (40, 30)])
def test_global_mean(target, channels, size):
    x = np.random.default_rng(2).standard_normal((3, *size, channels)).astype(np.float32) + 3
    params = pool.GlobalMeanParams(channels)
    module = Module()
    pool.emit_global_mean(module, "mean", params, target)
    kernel = jit.compile_module(module, target, ["mean"]).kernel("mean")
    y = np.full((3, channels), np.nan, np.float32)
    kernel([x, 0, y, 3, *size], 0, pool.parallel_extent(params, target).value(3))
    np.testing.assert_allclose(y, x.astype(np.float64).mean((1, 2)), rtol=1e-6)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_output_extent_is_torchs_and_what_kernels_compute(ceil, padding):
    target = RUNNABLE[0]
    axes = [
        Axis(kernel, stride, dilation, padding, padding, ceil)
        for kernel in (2, 3, 5)
        for stride in (1, 2, 3)
        for dilation in (1, 2)
        if padding <= kernel // 2
    ]
    module = Module()
    text = Text(module, "extents")
    size, out = text.argument(0, "i64"), text.argument(1)
    for index, axis in enumerate(axes):
        text.store("i64", axis.emit_output(text, size), text.at(out, index, "i64"), 8)
    text.finish()
    kernel = jit.compile_module(module, target, ["extents"]).kernel("extents")
    for size in range(9, 24):
        got = np.zeros(len(axes), np.int64)
        kernel([size, got], 0, 1)
        for axis, emitted in zip(axes, got, strict=True):
            shape = F.max_pool1d(
                torch.zeros(1, 1, size), axis.kernel, axis.stride, padding, axis.dilation, ceil
            ).shape
            assert axis.output(size) == shape[2] == emitted


def test_unknown_kind_is_refused():
    with pytest.raises(InvalidArgumentError, match="'median'"):
        pool.PoolParams("median", 8, Axis(2), Axis(2))


def test_means_of_bytes_are_refused():
    with pytest.raises(InvalidArgumentError, match="maximum"):
        pool.PoolParams("avg", 8, Axis(2), Axis(2), element="i8")
