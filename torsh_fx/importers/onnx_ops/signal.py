"""Fourier transforms and mel filters."""

from __future__ import annotations

import math

from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.dims import Dim, floordiv
from torsh_dialect.dtypes import f64, i64, is_float
from torsh_dialect.ops.gather import GatherOp
from torsh_dialect.ops.join import PadOp
from torsh_dialect.ops.maths import CosOp, Expm1Op, Log1pOp
from torsh_dialect.ops.signal import DftOp
from torsh_dialect.types import dims_of, rank_of
from torsh_fx.importers.onnx_ops.movement import normal
from torsh_fx.importers.onnx_ops.node import Node, NotSupported, converter
from torsh_fx.importers.onnx_ops.reduce import for_axis


def _length(n: Node, index: int, default: Dim, what: str) -> Dim:
    """A number of elements or steps that an input gives: 1 or more.

    Raises:
        NotSupported: It is known to be less.
    """
    value = n.optional(index)
    if value is None:
        return default
    given = n.extents(n.c.cast(n.scalar(value), i64))[0]
    if isinstance(given, int) and given < 1:
        raise NotSupported(f"{what} is {given}, expected 1 or more", "repair the model")
    return given


def _with_parts(n: Node, x: SSAValue) -> SSAValue:
    """A signal that has imaginary parts, of 0, where only the run knows if it has any."""
    *others, parts = dims_of(x)
    if isinstance(parts, int):
        return x
    x = n.assume(n.assume(x, 1, "le", parts), parts, "le", 2)
    low, high = ([0] * len(others) + [last] for last in (0, 2 - parts))
    x = n(PadOp, x, None, low=dims_attribute(low), high=dims_attribute(high), mode="constant")
    return n.c.reshape(x, (*others, 2))


@converter("DFT")
def dft(n: Node) -> SSAValue:
    """The axis is an attribute in opset 17 and an input since 20."""
    x, rank = _with_parts(n, n.input(0)), n.rank()
    inverse, onesided = bool(n.int("inverse", 0)), bool(n.int("onesided", 0))
    given = None if n.optional(1) is None else _length(n, 1, 0, "the length")

    def along(b: BlockBuilder, axis: int) -> SSAValue:
        extent = dims_of(x)[axis]
        default = (extent - 1) * 2 if inverse and onesided else extent
        return b(
            DftOp, x, axis=axis, length=dims_attribute([default if given is None else given]),
            inverse=inverse or None, onesided=onesided or None,
        )  # fmt: skip

    if n.version < 20:
        return along(n.scope.builder, n.axis(1))
    if n.optional(2) is not None and n.known_ints(2) is None:
        return for_axis(n, n.c.cast(n.scalar(n.input(2)), i64), rank - 1, along)
    (axis,) = normal([-2] if n.optional(2) is None else n.required_ints(2, "axis"), rank)
    return along(n.scope.builder, axis)


@converter("STFT")
def stft(n: Node) -> SSAValue:
    """Frames of the signal, weighted by the window and transformed."""
    signal, c = n.input(0), n.c
    if rank_of(signal) == 2:
        signal = c.reshape(signal, (*dims_of(signal), 1))
    signal = _with_parts(n, signal)
    window = n.optional(2)
    step = _length(n, 1, 1, "the step of frames")
    size = _length(n, 3, dims_of(window)[0] if window is not None else 0, "the length of frames")
    if size == 0:
        raise NotSupported("neither a window nor a frame length", "repair the model")
    length = dims_of(signal)[1]
    count = floordiv(length - size, step) + 1
    first = c.mul(c.reshape(c.iota(count), (count, 1)), c.dim(step))
    frames = n(GatherOp, signal, c.add(first, c.iota(size)), axis=1)
    if window is not None:
        frames = c.mul(frames, c.reshape(window, (dims_of(window)[0], 1)))
    onesided = bool(n.int("onesided", 1)) or None
    return n(DftOp, frames, axis=2, length=dims_attribute([size]), onesided=onesided)


WINDOWS = {
    "HannWindow": (0.5, 0.5, 0.0),
    "HammingWindow": (25 / 46, 21 / 46, 0.0),
    "BlackmanWindow": (0.42, 0.5, 0.08),
}
"""a, b and c of the windows a - b cos(2 pi k / N) + c cos(4 pi k / N)."""


@converter(*WINDOWS)
def window(n: Node) -> SSAValue:
    """A window of `size` numbers; its period N is that, or one less where it is symmetric."""
    c, (first, second, third) = n.c, WINDOWS[n.op_type]
    size = n.extents(n.c.cast(n.scalar(n.input(0)), i64))[0]
    period = c.cast(c.dim(size if n.int("periodic", 1) else size - 1), f64)
    angle = c.mul(c.cast(c.iota(size), f64), c.div(c.like(2 * math.pi, period), period))
    y = c.sub(c.like(first, angle), c.mul(n(CosOp, angle), second))
    if third:
        y = c.add(y, c.mul(n(CosOp, c.mul(angle, 2.0)), third))
    to = n.element(n.int("output_datatype")) if n.has("output_datatype") else dtypes.f32
    # Integers are cut from f32, as by the operator's function: 1 - 2^-53 at the top is 1 there.
    return c.cast(y if is_float(to) else c.cast(y, dtypes.f32), to)


@converter("MelWeightMatrix")
def mel_weight_matrix(n: Node) -> SSAValue:
    """Triangles on the mel scale: rows are bins of the spectrum, columns filters."""
    c = n.c
    bins, length = (
        _length(n, i, 0, what) for i, what in enumerate(("the number of filters", "the length"))
    )
    rate, low, high = (c.cast(n.scalar(n.input(i)), f64) for i in (2, 3, 4))

    def mel(hertz: SSAValue) -> SSAValue:
        return c.mul(n(Log1pOp, c.div(hertz, 700.0)), 2595 / math.log(10))

    first = mel(low)
    step = c.div(c.sub(mel(high), first), c.cast(c.dim(bins + 2), f64))
    places = c.add(c.mul(c.cast(c.iota(bins + 2), f64), step), first)
    hertz = c.mul(n(Expm1Op, c.mul(places, math.log(10) / 2595)), 700.0)
    edges = c.floor(c.div(c.mul(hertz, c.cast(c.dim(length + 1), f64)), rate))
    left, centre, right = (c.slice(edges, 0, i, bins) for i in range(3))
    rows = floordiv(length, 2) + 1
    row = c.reshape(c.cast(c.iota(rows), f64), (rows, 1))
    rise, fall = c.sub(centre, left), c.sub(right, centre)
    up = c.div(c.sub(row, left), c.maximum(rise, 1.0))
    up = c.where(c.both(c.ge(row, left), c.le(row, centre)), up, c.like(0.0, up))
    up = c.where(c.eq(rise, 0.0), c.cast(c.eq(row, centre), f64), up)
    down = c.div(c.sub(right, row), c.maximum(fall, 1.0))
    falling = c.both(c.ge(row, centre), c.lt(row, right))
    y = c.where(falling, down, up)
    to = n.element(n.int("output_datatype")) if n.has("output_datatype") else dtypes.f32
    return c.cast(y, to)
