"""Windows over images with symbolic extents, in strips of rows: values and what is read.

Oracle: torch. Inputs end, or begin, at memory that may not be read.
"""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys
from itertools import product
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from torsh_fx.compiler import compile

SIZES = [
    (1, 1, 1),
    (2, 1, 7),
    (1, 7, 1),
    (0, 5, 5),
    (2, 13, 7),
    (1, 31, 30),
    (3, 5, 67),
    (1, 4, 131),
]
"""Batch, height and width: empty, one row or column, under and over the width of a vector."""

WINDOWS: dict[str, dict[str, Any]] = {
    "stride-1": {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    "stride-2": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    "stride-3-before": {"kernel_shape": [3, 4], "strides": [3, 3], "pads": [2, 3, 0, 1]},
    "stride-4": {"kernel_shape": [2, 2], "strides": [1, 4], "pads": [1, 1, 1, 1]},
    "stride-5-long": {"kernel_shape": [4, 5], "strides": [2, 5], "pads": [3, 4, 3, 4]},
    "dilated": {"kernel_shape": [2, 3], "dilations": [2, 3], "pads": [2, 3, 2, 3]},
    "ceil": {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 1, 0, 0], "ceil_mode": 1},
    "unpadded": {"kernel_shape": [1, 1], "strides": [2, 3]},
}


def pool(op: str, channels: int, attributes: dict[str, Any]) -> onnx.ModelProto:
    """A pool of images `[n, channels, h, w]`."""
    dims = ("n", channels, "h", "w")
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, dims)
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ("n", channels, "p", "q"))
    node = helper.make_node(op, ["x"], ["y"], **attributes)
    graph = helper.make_graph([node], "pool", [x], [y])
    opsets = [helper.make_opsetid("", 22)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def windows(
    x: torch.Tensor, attributes: dict[str, Any], shape: tuple[int, ...], fill: float
) -> Any:
    """The taps of all windows, `[n, c, p, q, kh, kw]`, `fill` outside of the input."""
    strides = attributes.get("strides", [1, 1])
    dilations = attributes.get("dilations", [1, 1])
    top, left = attributes.get("pads", [0, 0, 0, 0])[:2]
    rows, columns = (
        np.arange(count)[:, None] * stride + np.arange(kernel) * dilation - before
        for count, stride, kernel, dilation, before in zip(
            shape[2:], strides, attributes["kernel_shape"], dilations, (top, left), strict=True
        )
    )
    wide = torch.nn.functional.pad(x.double(), (40, 40, 40, 40), value=fill)
    return wide[
        :, :, torch.tensor(rows + 40)[:, None, :, None], torch.tensor(columns + 40)[None, :, None]
    ]


def fits(attributes: dict[str, Any], height: int, width: int) -> bool:
    """Whether a window lies in the padded image."""
    kernel, apart = attributes["kernel_shape"], attributes.get("dilations", [1, 1])
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, apart, strict=True)]
    pads = attributes.get("pads", [0, 0, 0, 0])
    return height + pads[0] + pads[2] >= reach[0] and width + pads[1] + pads[3] >= reach[1]


@pytest.mark.parametrize("name", WINDOWS)
def test_pools(name: str) -> None:
    """Maxima and means of what lies inside of the input, NaN and infinities among it."""
    attributes = WINDOWS[name]
    largest = compile(pool("MaxPool", 3, attributes), threads=1)
    mean = compile(pool("AveragePool", 3, attributes), threads=1)
    rng = np.random.default_rng(5)
    for n, h, w in SIZES:
        x = rng.standard_normal((n, 3, h, w)).astype(np.float32)
        if x.size > 50:
            x.reshape(-1)[[3, 17, 40]] = np.nan, np.inf, -np.inf
        if not fits(attributes, h, w):
            continue
        (y,) = largest.run([x])
        taps = windows(torch.from_numpy(x), attributes, y.shape, -np.inf)
        expected = taps.flatten(-2).amax(-1).numpy()
        np.testing.assert_array_equal(y, expected, err_msg=str((n, h, w)))
        (y,) = mean.run([x])
        taps = windows(torch.from_numpy(x), attributes, y.shape, np.inf).flatten(-2)
        ones = windows(torch.ones(x.shape), attributes, y.shape, 0.0).flatten(-2)
        expected = torch.where(ones > 0, taps, 0.0).sum(-1) / ones.sum(-1)
        np.testing.assert_allclose(y, expected.numpy(), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_of_given_weights(stride: int) -> None:
    """Filters that are an input: the loops by element, whose taps outside are zeros."""
    dims = ("n", 3, "h", "w")
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, dims)
    w = helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, (2, 3, 3, 3))
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ("n", 2, "p", "q"))
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], strides=[stride, stride])
    graph = helper.make_graph([node], "conv", [x, w], [y])
    opsets = [helper.make_opsetid("", 22)]
    f = compile(helper.make_model(graph, opset_imports=opsets, ir_version=10), threads=1)
    generator = torch.Generator().manual_seed(3)
    filters = torch.randn((2, 3, 3, 3), generator=generator)
    for n, height, width in SIZES:
        image = torch.randn((n, 3, height, width), generator=generator)
        (found,) = f.run([image.numpy(), filters.numpy()])
        expected = torch.nn.functional.conv2d(image.double(), filters.double(), None, stride, 1)
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5)


def guarded(shape: tuple[int, ...], at_end: bool) -> np.ndarray[Any, Any]:
    """Zeros that end where memory may not be read, or begin after such."""
    page, size = mmap.PAGESIZE, 4 * int(np.prod(shape))
    pages = -(-size // page)
    memory = mmap.mmap(-1, (pages + 2) * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    for edge in (address, address + (pages + 1) * page):
        if libc.mprotect(ctypes.c_void_p(edge), ctypes.c_size_t(page), 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    start = (pages + 1) * page - size if at_end else page
    return np.frombuffer(memory, np.float32, size // 4, start).reshape(shape)


def read_between_guards() -> None:
    """Run pools on guarded inputs: a read outside ends the process."""
    for attributes, op in product(WINDOWS.values(), ("MaxPool", "AveragePool")):
        f = compile(pool(op, 2, attributes), threads=1)
        for (n, h, w), at_end in product(SIZES, (True, False)):
            if n and fits(attributes, h, w):
                (y,) = f.run([guarded((n, 2, h, w), at_end)])
                assert not np.nan_to_num(y, neginf=0.0).any()  # windows may hold padding alone


def test_reads_stay_inside() -> None:
    """Whole vectors are read only where all of their elements lie in the input."""
    code = "import test_window_strips as t; t.read_between_guards(); print('inside')"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=__file__.rpartition("/")[0], capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.stdout == "inside\n", run.stderr[-2000:] or run.returncode
