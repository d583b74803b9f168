"""Convolutions of every template against torch in float64, and their bits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lowering.cpu import jit
from lowering.cpu.templates import conv, depthwise, gemm, pack, winograd
from lowering.cpu.templates.epilogue import bias_residual_activation
from lowering.cpu.templates.window import Axis
from lowering.cpu.text import Module
from torsh_dialect.target import TARGETS

RUNNABLE = [TARGETS[n] for n in ("x86-64-v2", "x86-64-v3", "x86-64-v4")]
RUNNABLE = [target for target in RUNNABLE if jit.runs_here(target)]

pytestmark = pytest.mark.skipif(not RUNNABLE, reason="no x86-64 target runs here")


@pytest.fixture(params=RUNNABLE, ids=lambda target: target.name)
def target(request):
    return request.param


def axes(kernel, stride=1, dilation=1, pads=(0, 0, 0, 0)):
    """Vertical and horizontal windows; pads are top, left, bottom, right."""
    return tuple(
        Axis(size, stride if size > 1 or kernel == (1, 1) else 1, dilation if size > 1 else 1, *pad)
        for size, pad in zip(kernel, (pads[::2], pads[1::2]), strict=True)
    )


class Built:
    """A compiled convolution with its weights packed; call it with an image."""

    def __init__(self, params, target, weight):
        self.params, self.target = params, target
        module = Module()
        if isinstance(params, winograd.WinogradParams):
            winograd.emit(module, "conv", params, target)
            winograd.emit_pack(module, "pack", params, target)
            dims = winograd.packed_dims(params, target)
            units = dims[0]
        else:
            template = depthwise if isinstance(params, depthwise.DepthwiseParams) else conv
            template.emit(module, "conv", params, target)
            if template is depthwise:
                packing = depthwise.packing(params)
            else:
                packing = pack.pack_conv(
                    params.out_channels, params.channels, weight.shape[2:], params.groups
                )
            pack.emit(module, "pack", packing, target)
            dims = pack.packed_dims(packing, target)
            units = pack.parallel_extent(packing, target).value(1)
        compiled = jit.compile_module(module, target, ["conv", "pack"])
        self.packed = jit.aligned(dims)
        self.packed[:] = np.nan
        compiled.kernel("pack")([weight, self.packed], 0, units)
        self.kernel = compiled.kernel("conv")

    def units(self, x):
        """Number of units for image `x`."""
        params, (batch, height, width, _) = self.params, x.shape
        if isinstance(params, winograd.WinogradParams):
            rows = params.tiles(batch, height, width)
            return winograd.parallel_extent(params, self.target).value(rows)
        rows = batch * params.vertical.output(height)
        if isinstance(params, depthwise.DepthwiseParams):
            return depthwise.parallel_extent(params, self.target).value(rows)
        if not params.strip:
            rows *= params.horizontal.output(width)
        return conv.parallel_extent(params, self.target).value(rows)

    def scratch(self):
        if isinstance(self.params, winograd.WinogradParams):
            return winograd.scratch_bytes(self.params, self.target)
        if isinstance(self.params, depthwise.DepthwiseParams):
            return 0
        return conv.scratch_bytes(self.params)

    def __call__(self, x, words=(), order=None):
        """Run on `x`; `order` runs unit by unit, each as another worker."""
        params, (batch, height, width, _) = self.params, x.shape
        depthwise_ = isinstance(params, depthwise.DepthwiseParams)
        channels = params.channels if depthwise_ else params.out_channels
        dims = (params.vertical.output(height), params.horizontal.output(width))
        y = np.full((batch, *dims, channels), np.nan, np.float32)
        size = self.scratch()
        scratch = jit.aligned((3 * size + 64,), np.uint8)
        scratch[:] = 255  # NaN: nothing may be read before it is written
        words = [x, self.packed, y, batch, height, width, scratch, size, *words]
        if order is None:
            self.kernel(words, 0, self.units(x))
            return y
        for unit in order:
            self.kernel(words, int(unit), int(unit) + 1, int(unit) % 3)
        return y


def reference(x, weight, params, groups=1):
    down, across = params.vertical, params.horizontal
    image = torch.from_numpy(x).double().permute(0, 3, 1, 2)
    image = torch.nn.functional.pad(image, (across.before, across.after, down.before, down.after))
    result = torch.nn.functional.conv2d(
        image,
        torch.from_numpy(weight).double(),
        stride=(down.stride, across.stride),
        dilation=(down.dilation, across.dilation),
        groups=groups,
    )
    return result.permute(0, 2, 3, 1).numpy()


def check(params, target, dims, weight_dims, groups=1):
    """Values, dynamic against static extents, batch independence, any split."""
    rng = np.random.default_rng(sum(dims))
    x = rng.standard_normal(dims).astype(np.float32)
    weight = rng.standard_normal(weight_dims).astype(np.float32)
    built = Built(params, target, weight)
    whole = built(x)
    expected = reference(x, weight, params, groups)
    assert whole.shape == expected.shape
    steps = np.prod(weight_dims[1:])
    np.testing.assert_allclose(whole, expected, rtol=0, atol=2e-6 * (steps**0.5 + 8))
    bits = whole.view(np.int32)
    static = Built(replace(params, dims=dims[:3]), target, weight)(x)
    np.testing.assert_array_equal(static.view(np.int32), bits)
    for image in range(dims[0]):
        alone = built(x[image : image + 1].copy())
        np.testing.assert_array_equal(alone[0].view(np.int32), bits[image])
    shuffled = built(x, order=rng.permutation(built.units(x)))
    np.testing.assert_array_equal(shuffled.view(np.int32), bits)


@pytest.mark.parametrize(
    ("dims", "out", "kernel", "stride", "dilation", "pads", "groups"),
    [
        ((1, 7, 7, 16), 32, (3, 3), 1, 1, (1, 1, 1, 1), 1),
        ((2, 9, 11, 5), 7, (3, 3), 2, 1, (1, 1, 1, 1), 1),  # strip
        ((1, 8, 8, 300), 20, (3, 3), 1, 1, (1, 1, 1, 1), 1),  # blocks inside taps
        ((3, 1, 30, 13), 17, (1, 5), 1, 2, (0, 4, 0, 4), 1),  # one spatial axis
        ((3, 5, 4, 24), 36, (3, 3), 1, 1, (0, 1, 2, 3), 3),
        ((1, 14, 14, 64), 100, (1, 1), 2, 1, (0, 0, 0, 0), 1),
        ((1, 12, 13, 3), 16, (7, 7), 2, 1, (3, 3, 3, 3), 1),  # strip
        ((2, 6, 6, 3), 1, (3, 3), 1, 2, (2, 2, 2, 2), 1),
        ((1, 10, 10, 8), 64, (5, 5), 1, 2, (4, 4, 4, 4), 2),
        ((2, 1, 1, 40), 50, (1, 1), 1, 1, (0, 0, 0, 0), 1),
        ((1, 2, 2, 16), 16, (5, 5), 1, 1, (2, 2, 2, 2), 1),  # window wider than the image
        ((1, 4, 260, 3), 20, (3, 3), 1, 1, (1, 1, 1, 1), 1),  # strips of part of a row
        ((1, 5, 250, 2), 5, (3, 3), 2, 1, (1, 0, 0, 1), 1),
        ((1, 3, 2, 3), 8, (3, 9), 1, 1, (1, 8, 1, 8), 1),  # strips wholly in the padding
        ((1, 6, 40, 11), 33, (3, 21), 1, 1, (1, 10, 1, 10), 1),  # strip, several blocks
    ],
)
def test_conv(target, dims, out, kernel, stride, dilation, pads, groups):
    down, across = axes(kernel, stride, dilation, pads)
    params = conv.ConvParams(dims[3], out, down, across, groups)
    check(params, target, dims, (out, dims[3] // groups, *kernel), groups)


@pytest.mark.parametrize(
    ("dims", "out", "pads"),
    [
        ((1, 8, 8, 16), 32, (1, 1, 1, 1)),
        ((2, 7, 9, 20), 40, (1, 1, 1, 1)),
        ((3, 5, 4, 300), 7, (0, 0, 0, 0)),
        ((1, 30, 31, 64), 100, (2, 1, 0, 1)),
        ((1, 3, 3, 8), 16, (0, 0, 0, 0)),
    ],
)
def test_winograd(target, dims, out, pads):
    down, across = axes((3, 3), pads=pads)
    params = winograd.WinogradParams(dims[3], out, down, across)
    check(params, target, dims, (out, dims[3], 3, 3))


@pytest.mark.parametrize("template", [winograd.WinogradParams, conv.ConvParams])
def test_rms_error_against_torchs_own(target, template):
    """The contract's bound: 1.5 times the error of torch in float32."""
    rng = np.random.default_rng(0)
    params = template(256, 64, *axes((3, 3), pads=(1, 1, 1, 1)))
    x = rng.standard_normal((1, 14, 14, 256)).astype(np.float32)
    weight = rng.standard_normal((64, 256, 3, 3)).astype(np.float32)
    exact = reference(x, weight, params)
    image = torch.from_numpy(x).permute(0, 3, 1, 2)
    torchs = torch.nn.functional.conv2d(image, torch.from_numpy(weight), padding=1)
    own, peer = (
        np.sqrt(np.mean((result - exact) ** 2))
        for result in (Built(params, target, weight)(x), torchs.permute(0, 2, 3, 1).numpy())
    )
    assert own <= 1.5 * peer


@pytest.mark.parametrize(
    ("dims", "kernel", "stride", "dilation", "pads"),
    [
        ((1, 8, 8, 16), (3, 3), 1, 1, (1, 1, 1, 1)),
        ((2, 7, 9, 20), (5, 5), 2, 1, (2, 2, 2, 2)),
        ((1, 14, 14, 100), (3, 3), 2, 1, (0, 0, 1, 1)),
        ((1, 1, 40, 7), (1, 31), 1, 1, (0, 30, 0, 0)),  # causal, loop over kw
        ((1, 12, 12, 35), (3, 3), 1, 2, (2, 2, 2, 2)),
        ((1, 2, 2, 33), (7, 7), 1, 1, (3, 3, 3, 3)),  # no interior
        ((1, 9, 9, 32), (3, 9), 1, 1, (1, 4, 1, 4)),
    ],
)
def test_depthwise(target, dims, kernel, stride, dilation, pads):
    down, across = axes(kernel, stride, dilation, pads)
    params = depthwise.DepthwiseParams(dims[3], down, across)
    check(params, target, dims, (dims[3], 1, *kernel), groups=dims[3])


@pytest.mark.parametrize("template", ["taps", "strip", "winograd", "depthwise"])
def test_epilogue(target, template):
    rng = np.random.default_rng(7)
    down, across = axes((3, 3), pads=(1, 1, 1, 1))
    channels = 4 if template == "strip" else 21
    make = {
        "winograd": winograd.WinogradParams,
        "depthwise": lambda c, _, v, h, **k: depthwise.DepthwiseParams(c, v, h, **k),
    }.get(template, conv.ConvParams)
    epilogue = bias_residual_activation(bias=8, residual=9, residual_stride=21, activation="relu")
    params = make(channels, 21, down, across, epilogue=epilogue)
    x = rng.standard_normal((2, 5, 6, channels)).astype(np.float32)
    depthwise_ = template == "depthwise"
    weight = rng.standard_normal((21, 1 if depthwise_ else channels, 3, 3)).astype(np.float32)
    bias = rng.standard_normal(21).astype(np.float32)
    residual = rng.standard_normal((2, 5, 6, 21)).astype(np.float32)
    got = Built(params, target, weight)(x, (bias, residual))
    expected = reference(x, weight, params, 21 if depthwise_ else 1) + bias + residual
    np.testing.assert_allclose(got, np.maximum(expected, 0), atol=2e-5)


def test_pointwise_conv_has_the_bits_of_the_matrix_product(target):
    rng = np.random.default_rng(8)
    x = rng.standard_normal((2, 5, 7, 600)).astype(np.float32)
    weight = rng.standard_normal((40, 600, 1, 1)).astype(np.float32)
    built = Built(conv.ConvParams(600, 40, *axes((1, 1))), target, weight)
    params = gemm.GemmParams(40, 600)
    module = Module()
    gemm.emit(module, "gemm", params, target)
    c = np.full((70, 40), np.nan, np.float32)
    kernel = jit.compile_module(module, target, ["gemm"]).kernel("gemm")
    kernel([x, built.packed, c, 70], 0, gemm.parallel_extent(params, target).value(70))
    np.testing.assert_array_equal(built(x).view(np.int32).reshape(70, 40), c.view(np.int32))


@st.composite
def convolutions(draw):
    """A random geometry that has at least one output pixel."""
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    windows = []
    dims = [draw(st.integers(1, 3))]
    for axis in range(2):
        reach = (kernel[axis] - 1) * dilation[axis] + 1
        before, after = draw(st.integers(0, reach)), draw(st.integers(0, reach))
        least = max(1, reach - before - after)
        dims.append(draw(st.integers(least, least + 12)))
        windows.append(Axis(kernel[axis], stride[axis], dilation[axis], before, after))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, out = draw(st.integers(1, 20)) * groups, draw(st.integers(1, 40)) * groups
    return dims, channels, out, groups, windows


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(convolutions(), st.booleans())
def test_random_geometry(geometry, one_filter_per_channel):
    dims, channels, out, groups, windows = geometry
    if one_filter_per_channel:
        params = depthwise.DepthwiseParams(channels, *windows)
        out = groups = channels
    else:
        params = conv.ConvParams(channels, out, *windows, groups)
    kernel = (windows[0].kernel, windows[1].kernel)
    check(params, RUNNABLE[-1], (*dims, channels), (out, channels // groups, *kernel), groups)


@pytest.mark.parametrize(
    ("channels", "out", "size", "suits"),
    [(64, 64, 56, True), (64, 64, None, True), (512, 512, 7, True), (3, 64, 56, False),
     (64, 16, 56, False), (64, 64, 1, False)],
)  # fmt: skip
def test_winograd_suits_sizes_but_never_looks_at_the_batch(channels, out, size, suits):
    down, across = axes((3, 3), pads=(1, 1, 1, 1))
    for batch in (None, 1, 100):
        dims = (batch, size, size)
        params = winograd.WinogradParams(channels, out, down, across, dims)
        assert winograd.suits(params) == suits
