"""`NumpyPrim`: the maths library interpreted by numpy, for tests and constant folding.

It never fuses multiply and add, like a target without FMA.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowering.math.num import Num
from lowering.math.prim import Binary, Compare, Convert, Kind, Unary

Array = NDArray[Any]

DTYPE: dict[Kind, Any] = {
    "f32": np.float32, "f64": np.float64, "i1": np.bool_,
    "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64,
}  # fmt: skip
_UNSIGNED: dict[Kind, Any] = {
    "i8": np.uint8, "i16": np.uint16, "i32": np.uint32, "i64": np.uint64,
}  # fmt: skip

_UNARY: dict[Unary, Callable[[Array], Array]] = {
    "neg": np.negative, "abs": np.abs, "sqrt": np.sqrt, "floor": np.floor, "ceil": np.ceil,
    "trunc": np.trunc, "rint": np.rint, "popcount": np.bitwise_count,
}  # fmt: skip
_BINARY: dict[Binary, Callable[[Array, Array], Array]] = {
    "fadd": np.add, "fsub": np.subtract, "fmul": np.multiply, "fdiv": np.divide,
    "copysign": np.copysign, "add": np.add, "sub": np.subtract, "mul": np.multiply,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "shl": np.left_shift, "lshr": np.right_shift, "ashr": np.right_shift,
    "udiv": np.floor_divide, "urem": np.remainder, "srem": np.fmod,
}  # fmt: skip
_COMPARE: dict[Compare, Callable[[Array, Array], Array]] = {
    "oeq": np.equal, "une": np.not_equal, "olt": np.less, "ole": np.less_equal,
    "ogt": np.greater, "oge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
    "slt": np.less, "sle": np.less_equal, "sgt": np.greater, "sge": np.greater_equal,
    "ult": np.less, "ule": np.less_equal, "ugt": np.greater, "uge": np.greater_equal,
}  # fmt: skip


class NumpyPrim:
    """Values are arrays of one common shape, or scalars that broadcast."""

    def num(self, kind: Kind, value: Array) -> Num[Array]:
        """An array as an operand of the library."""
        return Num(self, kind, np.asarray(value, DTYPE[kind]))

    def constant(self, kind: Kind, value: float) -> Array:
        """A 0-d array."""
        if kind in _UNSIGNED:
            unsigned = _UNSIGNED[kind]
            bits = int(value) & int(np.iinfo(unsigned).max)
            return np.asarray(bits, unsigned).view(DTYPE[kind])
        with np.errstate(over="ignore"):
            return np.asarray(value).astype(DTYPE[kind])

    def unary(self, op: Unary, kind: Kind, x: Array) -> Array:
        """`op` lane by lane."""
        with np.errstate(all="ignore"):
            return np.asarray(_UNARY[op](x)).astype(DTYPE[kind])

    def binary(self, op: Binary, kind: Kind, x: Array, y: Array) -> Array:
        """`op` lane by lane, unsigned where `op` reads its operands so."""
        with np.errstate(all="ignore"):
            if op == "sdiv":
                return np.asarray((x - np.fmod(x, y)) // y, DTYPE[kind])
            if op in ("lshr", "udiv", "urem") and kind in _UNSIGNED:
                unsigned = _UNSIGNED[kind]
                result = _BINARY[op](x.view(unsigned), y.view(unsigned))
                return np.asarray(result).view(DTYPE[kind])
            return np.asarray(_BINARY[op](x, y), DTYPE[kind])

    def fma(self, kind: Kind, x: Array, y: Array, z: Array) -> Array:
        """Two roundings."""
        return self.binary("fadd", kind, self.binary("fmul", kind, x, y), z)

    def compare(self, op: Compare, kind: Kind, x: Array, y: Array) -> Array:
        """A bool array."""
        if op == "uno":
            return np.asarray(np.isnan(x) | np.isnan(y))
        if op[0] == "u" and op != "une" and kind in _UNSIGNED:
            unsigned = _UNSIGNED[kind]
            return np.asarray(_COMPARE[op](x.view(unsigned), y.view(unsigned)))
        return np.asarray(_COMPARE[op](x, y))

    def select(self, kind: Kind, mask: Array, x: Array, y: Array) -> Array:
        """`numpy.where`."""
        return np.where(mask, x, y)

    def convert(self, op: Convert, source: Kind, target: Kind, x: Array) -> Array:
        """A cast, or a view for bitcast."""
        if op == "bitcast":
            return np.asarray(x).view(DTYPE[target])
        if op in ("zext", "uitofp") and source in _UNSIGNED:
            x = np.asarray(x).view(_UNSIGNED[source])
        with np.errstate(all="ignore"):
            return np.asarray(x).astype(DTYPE[target])

    def lookup(self, kind: Kind, name: str, table: Sequence[int], index: Array) -> Array:
        """Fancy indexing."""
        return np.asarray(table, DTYPE[kind])[index]

    def rare(
        self,
        kinds: Sequence[Kind],
        mask: Array,
        usual: Sequence[Array],
        body: Callable[[], Sequence[Array]],
    ) -> list[Array]:
        """`body` is evaluated when any lane needs it."""
        if not mask.any():
            return list(usual)
        return [np.where(mask, x, y) for x, y in zip(body(), usual, strict=True)]

    def repeat(
        self,
        kinds: Sequence[Kind],
        state: Sequence[Array],
        condition: Callable[[Sequence[Array]], Array],
        body: Callable[[Sequence[Array]], Sequence[Array]],
    ) -> list[Array]:
        """A Python loop."""
        current = list(state)
        while condition(current).any():
            current = list(body(current))
        return current
