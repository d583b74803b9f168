"""What a machine must offer to run the maths library: the typed `Prim` protocol.

A function of the library is written once, over `Num` (num.py), and interpreted by an LLVM text
emitter (text_prim.py), by numpy (numpy_prim.py), or by any other class with these methods.
`V` is whatever the interpreter calls a value: all lanes of one vector or an array.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeVar

V = TypeVar("V")

Kind = Literal["f32", "f64", "i1", "i8", "i16", "i32", "i64"]
"""Element types. Integers have no sign of their own; the operation says how it reads them."""

Unary = Literal["neg", "abs", "sqrt", "floor", "ceil", "trunc", "rint", "popcount"]
"""On floats, except popcount. `rint` rounds half to even."""

Binary = Literal[
    "fadd", "fsub", "fmul", "fdiv", "copysign",
    "add", "sub", "mul", "and", "or", "xor", "shl", "lshr", "ashr", "udiv", "urem", "sdiv", "srem",
]  # fmt: skip
"""IEEE arithmetic rounded once (never contracted), and wrapping integer arithmetic.

Shift counts must be below the width, divisors must not be 0 and MIN / -1 must not occur.
"""

Compare = Literal[
    "oeq", "une", "olt", "ole", "ogt", "oge", "uno",
    "eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge",
]  # fmt: skip
"""LLVM's names: `o` is false on NaN, `une` and `uno` are true; the second line is on integers."""

Convert = Literal[
    "bitcast", "fpext", "fptrunc", "sitofp", "uitofp", "fptosi", "fptoui", "trunc", "zext", "sext"
]
"""LLVM's names. `fptosi` and `fptoui` need a value that the result can hold."""

BITS: dict[Kind, int] = {"f32": 32, "f64": 64, "i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64}


def is_float(kind: Kind) -> bool:
    """Whether `kind` is a floating-point type."""
    return kind[0] == "f"


class Prim(Protocol[V]):
    """An interpreter of the library's operations; every value has the same lanes."""

    def constant(self, kind: Kind, value: float) -> V:
        """All lanes `value`, rounded to `kind`; integers wrap."""
        ...

    def unary(self, op: Unary, kind: Kind, x: V) -> V:
        """`op` on one operand of `kind`."""
        ...

    def binary(self, op: Binary, kind: Kind, x: V, y: V) -> V:
        """`op` on two operands of `kind`."""
        ...

    def fma(self, kind: Kind, x: V, y: V, z: V) -> V:
        """`x * y + z` with one rounding or two, whichever the machine does faster."""
        ...

    def compare(self, op: Compare, kind: Kind, x: V, y: V) -> V:
        """A mask of kind i1."""
        ...

    def select(self, kind: Kind, mask: V, x: V, y: V) -> V:
        """Lanes of `x` where `mask` is set, lanes of `y` elsewhere."""
        ...

    def convert(self, op: Convert, source: Kind, target: Kind, x: V) -> V:
        """`x` of kind `source` as `target`."""
        ...

    def lookup(self, kind: Kind, name: str, table: Sequence[int], index: V) -> V:
        """Entry `index` (i64, in range) of a constant integer table of element type `kind`."""
        ...

    def rare(
        self, kinds: Sequence[Kind], mask: V, usual: Sequence[V], body: Callable[[], Sequence[V]]
    ) -> list[V]:
        """`usual`, but lanes of `body()` where `mask` is set; `body` may be skipped otherwise."""
        ...

    def repeat(
        self,
        kinds: Sequence[Kind],
        state: Sequence[V],
        condition: Callable[[Sequence[V]], V],
        body: Callable[[Sequence[V]], Sequence[V]],
    ) -> list[V]:
        """`while any(condition(state)): state = body(state)`; `body` keeps finished lanes."""
        ...
