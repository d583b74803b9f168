"""Numpy interpreters of the scalar language and of index maps, for the sweeps only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from torsh_dialect.dims import evaluate_dim
from torsh_dialect.dtypes import dtype_of, dtype_of_numpy
from torsh_dialect.ops import special_reference as ref
from torsh_dialect.ops.select import cast


def _sigmoid(x):
    return np.asarray(1 / (1 + np.exp(-x.astype(np.float64)))).astype(x.dtype)


def _wide(function, *fixed):
    return lambda *x: np.asarray(function(*fixed, *(v.astype(np.float64) for v in x))).astype(
        x[0].dtype
    )


MATHS = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2,
    "log10": np.log10, "log1p": np.log1p, "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "atan2": np.arctan2,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh,
    "atanh": np.arctanh, "pow": np.power, "cbrt": np.cbrt, "hypot": np.hypot, "sigmoid": _sigmoid,
    "erf": _wide(ref.erf), "erfc": _wide(ref.erfc), "erfinv": _wide(ref.erfinv),
    "erfcx": _wide(ref.erfcx), "ndtri": _wide(ref.ndtri), "lgamma": _wide(ref.lgamma),
    "tgamma": _wide(ref.gamma), "digamma": _wide(ref.digamma), "zeta": _wide(ref.zeta),
    "igamma": _wide(lambda a, x: ref.igamma(a, x, False)),
    "igammac": _wide(lambda a, x: ref.igamma(a, x, True)),
    "i0": _wide(lambda x: ref.bessel_i(0, x, False)),
    "i1": _wide(lambda x: ref.bessel_i(1, x, False)),
    "airy_ai": _wide(ref.airy_ai),
    "i0e": _wide(lambda x: ref.bessel_i(0, x, True)),
    "i1e": _wide(lambda x: ref.bessel_i(1, x, True)),
    "j0": _wide(ref.bessel_j, 0), "j1": _wide(ref.bessel_j, 1),
    "y0": _wide(ref.bessel_y, 0), "y1": _wide(ref.bessel_y, 1),
    "k0": _wide(lambda x: ref.bessel_k(0, x, False)),
    "k1": _wide(lambda x: ref.bessel_k(1, x, False)),
    "k0e": _wide(lambda x: ref.bessel_k(0, x, True)),
    "k1e": _wide(lambda x: ref.bessel_k(1, x, True)),
}  # fmt: skip


class NumpyScalar:
    """`torsh_dialect.scalar.Scalar` over numpy arrays: a value's dtype is its element type."""

    def dtype(self, a):
        return dtype_of_numpy(a.dtype).element

    def const(self, value, dtype):
        row = dtype_of(dtype)
        if row.kind in ("int", "uint"):
            return np.asarray(int(value) & ((1 << row.bits) - 1), np.uint64).astype(row.numpy)
        return np.asarray(value, row.numpy)

    def add(self, a, b):
        return self._same(a, b, np.add(a, b))

    def sub(self, a, b):
        return self._same(a, b, np.subtract(a, b))

    def mul(self, a, b):
        return self._same(a, b, np.multiply(a, b))

    def _same(self, a, b, result):
        assert a.dtype == b.dtype, f"{a.dtype} and {b.dtype}"
        assert a.dtype != np.bool_, "arithmetic on bools"
        return np.asarray(result, a.dtype)

    def div(self, a, b):
        if a.dtype.kind == "f":
            return self._same(a, b, np.divide(a, b))
        quotient = np.floor_divide(a, b) + ((np.remainder(a, b) != 0) & ((a < 0) != (b < 0)))
        return self._same(a, b, np.where(b == 0, 0, quotient).astype(a.dtype))

    def rem(self, a, b):
        if a.dtype.kind == "f":
            return self._same(a, b, np.fmod(a, b))
        return self._same(a, b, np.where(b == 0, a, np.fmod(a, b)).astype(a.dtype))

    def fma(self, a, b, c):
        return self.add(self.mul(a, b), c)

    def neg(self, a):
        return np.negative(a)

    def abs(self, a):
        return np.abs(a)

    def min(self, a, b):
        return self._same(a, b, np.minimum(a, b))

    def max(self, a, b):
        return self._same(a, b, np.maximum(a, b))

    def eq(self, a, b):
        return np.asarray(a == b)

    def ne(self, a, b):
        return np.asarray(a != b)

    def lt(self, a, b):
        return np.asarray(a < b)

    def le(self, a, b):
        return np.asarray(a <= b)

    def gt(self, a, b):
        return np.asarray(a > b)

    def ge(self, a, b):
        return np.asarray(a >= b)

    def select(self, condition, a, b):
        assert condition.dtype == np.bool_
        assert a.dtype == b.dtype
        return np.where(condition, a, b)

    def and_(self, a, b):
        return np.bitwise_and(a, b)

    def or_(self, a, b):
        return np.bitwise_or(a, b)

    def xor(self, a, b):
        return np.bitwise_xor(a, b)

    def not_(self, a):
        return np.invert(a)

    def shl(self, a, b):
        width = a.dtype.itemsize * 8
        inside = (b >= 0) & (b < width)
        return np.where(inside, np.left_shift(a, np.where(inside, b, 0)), 0).astype(a.dtype)

    def shr(self, a, b):
        width = a.dtype.itemsize * 8
        inside = (b >= 0) & (b < width)
        beyond = np.where(a < 0, -1, 0).astype(a.dtype)
        return np.where(inside, np.right_shift(a, np.where(inside, b, 0)), beyond)

    def cast(self, a, dtype):
        return np.asarray(cast(a, dtype_of(dtype), False, "up"))

    def bitcast(self, a, dtype):
        return np.ascontiguousarray(a).view(dtype_of(dtype).numpy).reshape(a.shape)

    def floor(self, a):
        return np.floor(a)

    def ceil(self, a):
        return np.ceil(a)

    def trunc(self, a):
        return np.trunc(a)

    def round(self, a):
        return np.rint(a)

    def sqrt(self, a):
        return np.sqrt(a)

    def math(self, name, *operands):
        assert all(v.dtype.kind == "f" for v in operands)
        return np.asarray(MATHS[name](*operands), operands[0].dtype)


@dataclass
class NumpyIndices:
    """`torsh_dialect.kinds.Indices` over Python integers."""

    symbols: dict[str, int]

    def dim(self, dim):
        return evaluate_dim(dim, self.symbols)

    def add(self, a, b):
        return a + b

    def sub(self, a, b):
        return a - b

    def mul(self, a, b):
        return a * b

    def floordiv(self, a, b):
        return a // b

    def mod(self, a, b):
        return a % b

    def min(self, a, b):
        return min(a, b)

    def max(self, a, b):
        return max(a, b)

    def lt(self, a, b):
        return a < b

    def ge(self, a, b):
        return a >= b

    def eq(self, a, b):
        return a == b

    def both(self, a, b):
        return a and b

    def select(self, condition, a, b):
        return a if condition else b


def picked(op, args, shape, dtype, symbols):
    """The result of a Movement or Gather by its index map, element by element."""
    ix = NumpyIndices(symbols)
    result = np.empty(shape, dtype)

    def read(operand, index):
        return int(args[operand][tuple(index)])

    for index in np.ndindex(*shape):
        picks = _picks(op, ix, index, read)
        for pick in picks:
            if pick.where is None or pick.where:
                source = args[pick.operand]
                assert all(0 <= i < d for i, d in zip(pick.index, source.shape, strict=True)), (
                    f"{index} reads {pick.index} of {source.shape}"
                )
                result[index] = source[tuple(pick.index)]
                break
        else:
            result[index] = op.fill()
    return result


def _picks(op, ix, index, read):
    from torsh_dialect.kinds import Gather

    return op.pick(ix, index, read) if isinstance(op, Gather) else op.pick(ix, index)


def scattered(op, args, symbols):
    """The result of a Scatter by its places and fold, update by update."""
    ix, s = NumpyIndices(symbols), NumpyScalar()
    wide = np.float32 if args[0].dtype == np.float16 else args[0].dtype
    result, updates = args[0].astype(wide).copy(), args[-1].astype(wide)

    def read(operand, index):
        return int(args[operand][tuple(index)])

    for index in np.ndindex(*updates.shape):
        pick = op.place(ix, index, read)
        if pick.where is None or pick.where:
            place = tuple(pick.index)
            result[place] = op.fold(s, np.asarray(result[place]), np.asarray(updates[index]))
    return result.astype(args[0].dtype)


def folded(op, x):
    """The result of a Reduce, element by element in row-major order."""
    s = NumpyScalar()
    element = s.dtype(x)
    axes = op.axis_list()
    kept = [n for n in range(x.ndim) if n not in axes]
    count = math.prod(x.shape[n] for n in axes)
    rows = np.transpose(x, (*kept, *axes)).reshape(*(x.shape[n] for n in kept), count)
    values = []
    for place in np.ndindex(*rows.shape[:-1]):
        total = op.identity(s, element)
        for n, value in enumerate(rows[place]):
            lifted = op.lift(s, np.asarray(value), np.asarray(n, np.int64))
            total = op.combine(s, total, lifted)
        values.append(op.finish(s, total, np.asarray(count, np.int64)))
    return np.asarray(values).reshape(rows.shape[:-1])


def scanned(op, x, axis, reverse, exclusive, dtype):
    """The result of a Scan, element by element."""
    s = NumpyScalar()
    rows = np.moveaxis(x, axis, -1)
    steps = list(range(rows.shape[-1]))[:: -1 if reverse else 1]
    values = {}
    for place in np.ndindex(*rows.shape[:-1]):
        total = op.identity(s, s.dtype(x))
        for n in steps:
            value = np.asarray(rows[(*place, n)])
            lifted = op.lift(s, value, np.asarray(n, np.int64)) if hasattr(op, "lift") else (value,)
            after = op.combine(s, total, lifted)
            chosen = total if exclusive else after
            values[(*place, n)] = op.finish(s, chosen) if hasattr(op, "finish") else chosen[0]
            total = after
    result = np.empty(rows.shape, dtype)
    for place, value in values.items():
        result[place] = value
    return np.moveaxis(result, -1, axis)
