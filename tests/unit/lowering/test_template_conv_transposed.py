"""Transposed convolution against torch in float64, and its bits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lowering.cpu import jit
from lowering.cpu.templates import conv_transposed as ct
from lowering.cpu.templates.epilogue import bias_residual_activation
from lowering.cpu.text import Module
from torsh_dialect.target import TARGETS

RUNNABLE = [TARGETS[n] for n in ("x86-64-v2", "x86-64-v3", "x86-64-v4")]
RUNNABLE = [target for target in RUNNABLE if jit.runs_here(target)]

pytestmark = pytest.mark.skipif(not RUNNABLE, reason="no x86-64 target runs here")


@pytest.fixture(params=RUNNABLE, ids=lambda target: target.name)
def target(request):
    return request.param


def run(params, target, x, weight, words=(), order=None):
    module = Module()
    ct.emit(module, "conv", params, target)
    ct.emit_pack(module, "pack", params, target)
    compiled = jit.compile_module(module, target, ["conv", "pack"])
    dims = ct.packed_dims(params, target)
    packed = jit.aligned(dims)
    packed[:] = np.nan
    compiled.kernel("pack")([weight, packed], 0, dims[0] * dims[1])
    batch, height, width, _ = x.shape
    out = params.vertical.output(height), params.horizontal.output(width)
    y = np.full((batch, *out, params.out_channels), np.nan, np.float32)
    strides = params.vertical.stride, params.horizontal.stride
    rows = batch * -(-out[0] // strides[0]) * -(-out[1] // strides[1])
    units = ct.parallel_extent(params, target).value(rows)
    kernel = compiled.kernel("conv")
    arguments = [x, packed, y, batch, height, width, 0, 0, *words]
    for unit in np.arange(units) if order is None else order.permutation(units):
        kernel(arguments, int(unit), int(unit) + 1)
    return y


def reference(x, weight, params):
    down, across = params.vertical, params.horizontal
    result = torch.nn.functional.conv_transpose2d(
        torch.from_numpy(x).double().permute(0, 3, 1, 2),
        torch.from_numpy(weight).double(),
        stride=(down.stride, across.stride),
        padding=(down.before, across.before),
        output_padding=(down.extra, across.extra),
        groups=params.groups,
        dilation=(down.dilation, across.dilation),
    )
    return result.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(
    ("dims", "out", "groups", "kernel", "stride", "dilation", "pad", "extra"),
    [
        ((2, 5, 6, 20), 17, 1, (2, 2), (2, 2), (1, 1), (0, 0), (0, 0)),
        ((1, 4, 7, 8), 40, 1, (3, 3), (2, 2), (1, 1), (1, 1), (1, 1)),
        ((1, 3, 4, 300), 5, 1, (4, 4), (2, 2), (1, 1), (1, 1), (0, 0)),
        ((3, 1, 9, 12), 18, 3, (1, 5), (1, 3), (1, 2), (0, 2), (0, 1)),
        ((1, 4, 4, 6), 4, 2, (2, 3), (3, 4), (1, 1), (0, 0), (2, 3)),  # phases without a tap
        ((1, 6, 5, 10), 33, 1, (3, 3), (1, 1), (2, 2), (2, 2), (0, 0)),
        ((1, 2, 2, 3), 3, 1, (16, 16), (8, 8), (1, 1), (4, 4), (0, 0)),
    ],
)
def test_values_and_bits(target, dims, out, groups, kernel, stride, dilation, pad, extra):
    rng = np.random.default_rng(0)
    axes = [
        ct.TransposedAxis(kernel[i], stride[i], dilation[i], pad[i], pad[i], extra[i])
        for i in range(2)
    ]
    params = ct.TransposedConvParams(dims[3], out, *axes, groups)
    x = rng.standard_normal(dims).astype(np.float32)
    weight = rng.standard_normal((dims[3], out // groups, *kernel)).astype(np.float32)
    got = run(params, target, x, weight)
    expected = reference(x, weight, params)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)
    static = run(replace(params, dims=dims[:3]), target, x, weight, order=rng)
    np.testing.assert_array_equal(static.view(np.int32), got.view(np.int32))
    alone = run(params, target, x[-1:].copy(), weight)
    np.testing.assert_array_equal(alone[0].view(np.int32), got[-1].view(np.int32))


def test_epilogue(target):
    rng = np.random.default_rng(1)
    axis = ct.TransposedAxis(4, 2, 1, 1, 1)
    epilogue = bias_residual_activation(bias=8, residual=9, residual_stride=21, activation="relu")
    params = ct.TransposedConvParams(7, 21, axis, axis, epilogue=epilogue)
    x = rng.standard_normal((2, 3, 5, 7)).astype(np.float32)
    weight = rng.standard_normal((7, 21, 4, 4)).astype(np.float32)
    bias = rng.standard_normal(21).astype(np.float32)
    residual = rng.standard_normal((2, 6, 10, 21)).astype(np.float32)
    got = run(params, target, x, weight, (bias, residual))
    expected = np.maximum(reference(x, weight, params) + bias + residual, 0)
    np.testing.assert_allclose(got, expected, atol=2e-5)
