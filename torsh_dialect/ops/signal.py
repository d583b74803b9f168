"""The discrete Fourier transform over one axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import I64, BoolAttr, IntegerAttr
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import operand_def, opt_prop_def, prop_def, result_def

from torsh_dialect.attributes import Array, bool_of, extents_of
from torsh_dialect.declare import op
from torsh_dialect.dims import Dim, floordiv
from torsh_dialect.dtypes import f64
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import Builder, Composite, normal_axes
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.maths import CosOp, SinOp
from torsh_dialect.ops.reference import narrow, precise
from torsh_dialect.types import AnyTensor, dims_of, element_type, rank_of, tensor


@op
class DftOp(Composite):
    """The discrete Fourier transform along `axis`, of `length` elements (cut or filled with 0).

    The last axis of x holds real parts, or real and imaginary parts. y[k] = sum of x[t]
    exp(-2 pi i t k / length); with `inverse` the sign is + and the sum is divided by the length.
    With `onesided` the forward transform gives the first length // 2 + 1 elements, and the inverse
    takes those of a real signal and gives its real part alone.

    C1: `axis` is not the last one; the last extent is 1 or 2.

    %r = torsh.dft %x {axis = 1 : i64, length = #torsh.dims<[4]>} : (tensor<2x4x1xf32>) -> tensor<2x4x2xf32>
    """  # noqa: E501

    name = "torsh.dft"
    x = operand_def()
    axis = prop_def(IntegerAttr[I64])
    length = prop_def(Attribute)
    inverse = opt_prop_def(BoolAttr)
    onesided = opt_prop_def(BoolAttr)
    y = result_def()

    def _axis(self) -> int:
        return normal_axes([self.axis.value.data], rank_of(self.x))[0]

    def _length(self) -> Dim:
        return extents_of(self.length)[0]

    def _real(self) -> bool:
        return bool_of(self.inverse) and bool_of(self.onesided)

    def infer(self) -> Sequence[AnyTensor]:
        dims, axis = list(dims_of(self.x)), self._axis()
        if axis == len(dims) - 1 or dims[-1] not in (1, 2):
            raise ShapeError(f"axis {axis} of {dims}: the last axis holds the parts (C1)")
        short = bool_of(self.onesided) and not bool_of(self.inverse)
        dims[axis] = floordiv(self._length(), 2) + 1 if short else self._length()
        dims[-1] = 1 if self._real() else 2
        return (tensor(element_type(self.x), dims),)

    def evaluate(self, *args: Array) -> Sequence[Array]:
        x, axis = precise(args[0]), self._axis()
        length = int(str(self._length()))
        signal: Any = x[..., 0] if x.shape[-1] == 1 else x[..., 0] + 1j * x[..., 1]
        if self._real():
            y = np.fft.irfft(signal, n=length, axis=axis)[..., None]
            return (narrow(y, args[0]),)
        transform = np.fft.ifft if bool_of(self.inverse) else np.fft.fft
        y = transform(signal, n=length, axis=axis)
        if bool_of(self.onesided):
            y = np.take(y, np.arange(length // 2 + 1), axis=axis)
        return (narrow(np.stack([y.real, y.imag], axis=-1), args[0]),)

    def expand(self, b: Builder) -> Sequence[SSAValue]:
        """Products with matrices of cosines and sines."""
        c, axis, length = Compose(b), self._axis(), self._length()
        x = c.wide(self.x)
        wanted = floordiv(length, 2) + 1 if self._real() else length
        x = self._fitted(c, x, axis, wanted)
        dims = dims_of(x)
        parts = [
            c.reshape(c.slice(x, len(dims) - 1, n, 1), dims[:-1])
            for n in range(2 if dims[-1] == 2 else 1)
        ]
        (result,) = self.infer()
        count = dims_of(result)[axis]
        cosine, sine = (c.cast_like(m, x) for m in self._matrices(c, count, wanted))
        real = c.contract_axis(parts[0], cosine, axis)
        imaginary = None
        if not self._real():
            imaginary = c.contract_axis(parts[0], sine, axis)
        if len(parts) == 2:
            real = c.sub(real, c.contract_axis(parts[1], sine, axis))
            if imaginary is not None:
                imaginary = c.add(imaginary, c.contract_axis(parts[1], cosine, axis))
        ends = [real] if imaginary is None else [real, imaginary]
        ends = [c.reshape(e, (*dims_of(e), 1)) for e in ends]
        return (c.narrow(c.concat(ends, len(dims) - 1), self.x),)

    def _fitted(self, c: Compose, x: SSAValue, axis: int, wanted: Dim) -> SSAValue:
        extent = dims_of(x)[axis]
        if extent == wanted:
            return x
        longer = c.pad(x, axis, 0, wanted) if not isinstance(extent, int) else x
        if isinstance(extent, int) and isinstance(wanted, int):
            longer = c.pad(x, axis, 0, max(wanted - extent, 0))
        elif isinstance(extent, int):
            longer = c.pad(x, axis, 0, wanted)
        return c.slice(longer, axis, 0, wanted)

    def _matrices(self, c: Compose, rows: Dim, columns: Dim) -> tuple[SSAValue, SSAValue]:
        """Cos and sin of 2 pi k t / length (negated for the forward transform), [rows, columns]."""
        length = self._length()
        k = c.reshape(c.iota(rows), (rows, 1))
        turn = c.remainder(c.mul(k, c.iota(columns)), c.dim(length))
        size = c.cast(c.dim(length), f64)
        angle = c.mul(c.div(c.cast(turn, f64), size), 2 * math.pi)
        cosine, sine = c.b(CosOp, angle), c.b(SinOp, angle)
        if not bool_of(self.inverse):
            return cosine, c.neg(sine)
        cosine, sine = c.div(cosine, size), c.div(sine, size)
        if self._real():
            weight = self._halves(c, columns)
            cosine, sine = c.mul(cosine, weight), c.mul(sine, weight)
        return cosine, sine

    def _halves(self, c: Compose, columns: Dim) -> SSAValue:
        """How often each element of a one-sided spectrum stands for: 1 at the ends, else 2."""
        place, length = c.iota(columns), c.dim(self._length())
        single = c.either(c.eq(place, 0), c.eq(c.mul(place, 2), length))
        one = c.constant(1.0, f64)
        return c.where(single, one, c.add(one, 1.0))
