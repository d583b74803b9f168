"""`Num`: a value of some interpreter with operators, so that formulas read as formulas."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

from lowering.math.prim import BITS, Compare, Convert, Kind, Prim, Unary, V, is_float
from lowering.math.prim import Binary as BinaryOp

INTEGER_OF: dict[Kind, Kind] = {"f32": "i32", "f64": "i64"}
FLOAT_OF: dict[Kind, Kind] = {"i32": "f32", "i64": "f64"}


@dataclass(frozen=True, eq=False, slots=True)
class Num(Generic[V]):
    """All lanes of one value: its interpreter, its element type, and the interpreter's handle.

    `+ - * /` are IEEE operations on floats; `+ - * & | ^ <<` wrap on integers. A Python number
    on either side becomes a constant of the same kind. Comparisons give masks (kind i1).
    """

    prim: Prim[V]
    kind: Kind
    value: V

    # -- constants and conversions

    def of(self, value: float) -> "Num[V]":
        """A constant of this kind."""
        return Num(self.prim, self.kind, self.prim.constant(self.kind, value))

    def constant(self, kind: Kind, value: float) -> "Num[V]":
        """A constant of another kind."""
        return Num(self.prim, kind, self.prim.constant(kind, value))

    def _same(self, other: "Num[V] | float") -> "Num[V]":
        return other if isinstance(other, Num) else self.of(other)

    def to(self, op: Convert, kind: Kind) -> "Num[V]":
        """Convert with LLVM's instruction `op`."""
        return Num(self.prim, kind, self.prim.convert(op, self.kind, kind, self.value))

    def bits(self) -> "Num[V]":
        """The float's bit pattern as an integer of the same width."""
        return self.to("bitcast", INTEGER_OF[self.kind])

    def as_float(self) -> "Num[V]":
        """The float whose bit pattern this integer is."""
        return self.to("bitcast", FLOAT_OF[self.kind])

    def widen(self) -> "Num[V]":
        """F32 as f64, exactly."""
        return self.to("fpext", "f64")

    def narrow(self) -> "Num[V]":
        """F64 rounded to f32."""
        return self.to("fptrunc", "f32")

    @property
    def width(self) -> int:
        """Bits of one element."""
        return BITS[self.kind]

    # -- arithmetic

    def _binary(self, floating: BinaryOp, integer: BinaryOp, other: "Num[V] | float") -> "Num[V]":
        op = floating if is_float(self.kind) else integer
        value = self.prim.binary(op, self.kind, self.value, self._same(other).value)
        return Num(self.prim, self.kind, value)

    def __add__(self, other: "Num[V] | float") -> "Num[V]":
        return self._binary("fadd", "add", other)

    def __sub__(self, other: "Num[V] | float") -> "Num[V]":
        return self._binary("fsub", "sub", other)

    def __mul__(self, other: "Num[V] | float") -> "Num[V]":
        return self._binary("fmul", "mul", other)

    def __truediv__(self, other: "Num[V] | float") -> "Num[V]":
        return self._binary("fdiv", "fdiv", other)

    def __radd__(self, other: float) -> "Num[V]":
        return self.of(other) + self

    def __rsub__(self, other: float) -> "Num[V]":
        return self.of(other) - self

    def __rmul__(self, other: float) -> "Num[V]":
        return self.of(other) * self

    def __rtruediv__(self, other: float) -> "Num[V]":
        return self.of(other) / self

    def __and__(self, other: "Num[V] | int") -> "Num[V]":
        return self._binary("fadd", "and", other)

    def __or__(self, other: "Num[V] | int") -> "Num[V]":
        return self._binary("fadd", "or", other)

    def __xor__(self, other: "Num[V] | int") -> "Num[V]":
        return self._binary("fadd", "xor", other)

    def __lshift__(self, other: "Num[V] | int") -> "Num[V]":
        return self._binary("fadd", "shl", other)

    def integer(self, op: BinaryOp, other: "Num[V] | int") -> "Num[V]":
        """An integer operation that has no operator: lshr, ashr, udiv, urem, sdiv, srem."""
        return self._binary(op, op, other)

    def __neg__(self) -> "Num[V]":
        return self.unary("neg") if is_float(self.kind) else 0 - self

    def __invert__(self) -> "Num[V]":
        return self ^ -1

    def unary(self, op: Unary) -> "Num[V]":
        """A one-operand operation."""
        return Num(self.prim, self.kind, self.prim.unary(op, self.kind, self.value))

    def abs(self) -> "Num[V]":
        """The float without its sign."""
        return self.unary("abs")

    def sqrt(self) -> "Num[V]":
        """The correctly rounded square root."""
        return self.unary("sqrt")

    def rint(self) -> "Num[V]":
        """The nearest integer, half to even, as a float."""
        return self.unary("rint")

    def copysign(self, sign: "Num[V]") -> "Num[V]":
        """The magnitude of this with the sign of `sign`."""
        value = self.prim.binary("copysign", self.kind, self.value, sign.value)
        return Num(self.prim, self.kind, value)

    def fma(self, factor: "Num[V] | float", addend: "Num[V] | float") -> "Num[V]":
        """`self * factor + addend` with one rounding or two."""
        y, z = self._same(factor).value, self._same(addend).value
        return Num(self.prim, self.kind, self.prim.fma(self.kind, self.value, y, z))

    # -- comparisons and choice

    def compare(self, op: Compare, other: "Num[V] | float") -> "Num[V]":
        """A mask; `op` is LLVM's name."""
        value = self.prim.compare(op, self.kind, self.value, self._same(other).value)
        return Num(self.prim, "i1", value)

    def _order(self, floating: Compare, integer: Compare, other: "Num[V] | float") -> "Num[V]":
        return self.compare(floating if is_float(self.kind) else integer, other)

    def __lt__(self, other: "Num[V] | float") -> "Num[V]":
        return self._order("olt", "slt", other)

    def __le__(self, other: "Num[V] | float") -> "Num[V]":
        return self._order("ole", "sle", other)

    def __gt__(self, other: "Num[V] | float") -> "Num[V]":
        return self._order("ogt", "sgt", other)

    def __ge__(self, other: "Num[V] | float") -> "Num[V]":
        return self._order("oge", "sge", other)

    def equals(self, other: "Num[V] | float") -> "Num[V]":
        """A mask of equal lanes; false on NaN."""
        return self._order("oeq", "eq", other)

    def differs(self, other: "Num[V] | float") -> "Num[V]":
        """A mask of different lanes; true on NaN."""
        return self._order("une", "ne", other)

    def is_nan(self) -> "Num[V]":
        """A mask of NaN lanes."""
        return self.compare("uno", self)

    def is_negative(self) -> "Num[V]":
        """A mask of lanes whose sign bit is set, -0 and negative NaN among them."""
        return self.bits() < 0

    def lower(self, other: "Num[V] | float") -> "Num[V]":
        """`self if self < other else other`: `other` where either is NaN."""
        return where(self < other, self, other)

    def higher(self, other: "Num[V] | float") -> "Num[V]":
        """`self if self > other else other`: `other` where either is NaN."""
        return where(self > other, self, other)

    def lookup(self, kind: Kind, name: str, table: Sequence[int]) -> "Num[V]":
        """Entries of a constant integer table at this index (i64, in range)."""
        return Num(self.prim, kind, self.prim.lookup(kind, name, table, self.value))


def where(mask: Num[V], x: Num[V] | float, y: Num[V] | float) -> Num[V]:
    """Lanes of `x` where `mask` is set, of `y` elsewhere; at least one of them is a `Num`."""
    if isinstance(x, Num):
        a, b = x, x if y is x else (y if isinstance(y, Num) else x.of(y))
    elif isinstance(y, Num):
        a, b = y.of(x), y
    else:
        raise TypeError("where: one of the choices must be a Num to give the kind")
    return Num(a.prim, a.kind, a.prim.select(a.kind, mask.value, a.value, b.value))


def horner(x: Num[V], coefficients: Sequence[float]) -> Num[V]:
    """The polynomial with `coefficients` in ascending order, at `x`."""
    result = x.of(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result = result.fma(x, coefficient)
    return result


def rarely(
    mask: Num[V], usual: Sequence[Num[V]], body: Callable[[], Sequence[Num[V]]]
) -> list[Num[V]]:
    """`usual`, but `body()` in the lanes of `mask`, computed only when there are some."""
    prim = mask.prim
    kinds: list[Kind] = [x.kind for x in usual]
    values = prim.rare(
        kinds, mask.value, [x.value for x in usual], lambda: [x.value for x in body()]
    )
    return [Num(prim, kind, value) for kind, value in zip(kinds, values, strict=True)]


def repeat(
    state: Sequence[Num[V]],
    condition: Callable[[list[Num[V]]], Num[V]],
    body: Callable[[list[Num[V]]], Sequence[Num[V]]],
) -> list[Num[V]]:
    """`while any(condition(state)): state = body(state)`; `body` keeps finished lanes as is."""
    prim = state[0].prim
    kinds: list[Kind] = [x.kind for x in state]

    def wrap(values: Sequence[V]) -> list[Num[V]]:
        return [Num(prim, kind, value) for kind, value in zip(kinds, values, strict=True)]

    values = prim.repeat(
        kinds,
        [x.value for x in state],
        lambda v: condition(wrap(v)).value,
        lambda v: [x.value for x in body(wrap(v))],
    )
    return wrap(values)
