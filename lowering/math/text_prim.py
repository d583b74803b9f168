"""`TextPrim`: the maths library as LLVM IR text, for vectors of any length and for scalars."""

import struct
from collections.abc import Callable, Sequence

from lowering.cpu.text import Text, Value, vector_of
from lowering.math.num import Num
from lowering.math.prim import BITS, Binary, Compare, Convert, Kind, Unary, is_float

ELEMENT: dict[Kind, str] = {
    "f32": "float", "f64": "double",
    "i1": "i1", "i8": "i8", "i16": "i16", "i32": "i32", "i64": "i64",
}  # fmt: skip
"""LLVM's names of element types."""

KIND_OF: dict[str, Kind] = {element: kind for kind, element in ELEMENT.items()}

_INTRINSICS: dict[Unary, str] = {
    "abs": "llvm.fabs",
    "sqrt": "llvm.sqrt",
    "floor": "llvm.floor",
    "ceil": "llvm.ceil",
    "trunc": "llvm.trunc",
    "rint": "llvm.roundeven",
    "popcount": "llvm.ctpop",
}


def float_literal(kind: Kind, value: float) -> str:
    """How LLVM spells a float constant exactly: the bits of the double that equals it."""
    if kind == "f32":
        value = round_to_f32(value)
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def round_to_f32(value: float) -> float:
    """The nearest f32; infinite beyond its range."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


class TextPrim:
    """Writes into a `Text`; values are SSA names or literals.

    Args:
        text: The function under construction.
        lanes: Elements of every value; 1 means scalars.
    """

    def __init__(self, text: Text, lanes: int):
        self.text = text
        self.lanes = lanes

    def type(self, kind: Kind) -> str:
        """The LLVM type of a value of `kind`."""
        return vector_of(ELEMENT[kind], self.lanes)

    def num(self, kind: Kind, value: Value) -> Num[Value]:
        """A value of the function as an operand of the library."""
        return Num(self, kind, value)

    def constant(self, kind: Kind, value: float) -> Value:
        """A literal; a splat for vectors."""
        if is_float(kind):
            literal = float_literal(kind, value)
        else:
            width = BITS[kind]
            wrapped = int(value) & ((1 << width) - 1)
            literal = str(wrapped - (1 << width) if wrapped >> (width - 1) else wrapped)
            literal = {"-1": "true", "0": "false"}[literal] if kind == "i1" else literal
        return literal if self.lanes == 1 else f"splat ({ELEMENT[kind]} {literal})"

    def unary(self, op: Unary, kind: Kind, x: Value) -> Value:
        """An instruction or an intrinsic that is an instruction on every target."""
        if op == "neg":
            return self.text.let(f"fneg {self.type(kind)} {x}")
        return self.text.intrinsic(_INTRINSICS[op], self.type(kind), x)

    def binary(self, op: Binary, kind: Kind, x: Value, y: Value) -> Value:
        """An instruction without flags."""
        if op == "copysign":
            return self.text.intrinsic("llvm.copysign", self.type(kind), x, y)
        return self.text.binary(op, self.type(kind), x, y)

    def fma(self, kind: Kind, x: Value, y: Value, z: Value) -> Value:
        """`llvm.fmuladd`."""
        return self.text.fma(self.type(kind), x, y, z)

    def compare(self, op: Compare, kind: Kind, x: Value, y: Value) -> Value:
        """`fcmp` or `icmp`."""
        return self.text.let(
            f"{'fcmp' if is_float(kind) else 'icmp'} {op} {self.type(kind)} {x}, {y}", "c"
        )

    def select(self, kind: Kind, mask: Value, x: Value, y: Value) -> Value:
        """`select` by a vector mask, or by an i1 for scalars."""
        return self.text.select(self.type(kind), mask, x, y)

    def convert(self, op: Convert, source: Kind, target: Kind, x: Value) -> Value:
        """A conversion instruction."""
        return self.text.let(f"{op} {self.type(source)} {x} to {self.type(target)}")

    def lookup(self, kind: Kind, name: str, table: Sequence[int], index: Value) -> Value:
        """Loads from a private constant, lane by lane (only rare paths use tables)."""
        element = ELEMENT[kind]
        listed = ", ".join(f"{element} {entry}" for entry in table)
        base = self.text.module.constant(name, f"[{len(table)} x {element}]", f"[{listed}]")
        if self.lanes == 1:
            return self.text.load(element, self.text.at(base, index, element), 8, "entry")
        result = "poison"
        for lane in range(self.lanes):
            one = self.text.let(f"extractelement {self.type('i64')} {index}, i64 {lane}")
            entry = self.text.load(element, self.text.at(base, one, element), 8, "entry")
            result = self.text.let(
                f"insertelement {self.type(kind)} {result}, {element} {entry}, i64 {lane}"
            )
        return result

    def _any(self, mask: Value) -> Value:
        if self.lanes == 1:
            return mask
        return self.text.intrinsic("llvm.vector.reduce.or", self.type("i1"), mask, result="i1")

    def rare(
        self,
        kinds: Sequence[Kind],
        mask: Value,
        usual: Sequence[Value],
        body: Callable[[], Sequence[Value]],
    ) -> list[Value]:
        """A branch around `body` when no lane needs it."""
        text, types = self.text, [self.type(kind) for kind in kinds]
        before, rare, done = text.block, text.label("rare"), text.label("usual")
        text.branch_if(self._any(mask), rare, done)
        text.start(rare)
        chosen = [
            text.select(type, mask, value, other)
            for type, value, other in zip(types, body(), usual, strict=True)
        ]
        after = text.block
        text.branch(done)
        text.start(done)
        return [
            text.let(f"phi {type} [ {other}, %{before} ], [ {value}, %{after} ]")
            for type, value, other in zip(types, chosen, usual, strict=True)
        ]

    def repeat(
        self,
        kinds: Sequence[Kind],
        state: Sequence[Value],
        condition: Callable[[Sequence[Value]], Value],
        body: Callable[[Sequence[Value]], Sequence[Value]],
    ) -> list[Value]:
        """A loop that runs while any lane needs it."""
        text = self.text
        before, head = text.block, text.label("while")
        inside, done = text.label("body"), text.label("done")
        text.branch(head)
        text.start(head)
        phis = [text.fresh("state") for _ in state]
        place = len(text.lines)
        text.lines.append("")
        text.branch_if(self._any(condition(phis)), inside, done)
        text.start(inside)
        following = body(phis)
        latch = text.block
        text.branch(head)
        text.lines[place] = "\n".join(
            f"  {phi} = phi {self.type(kind)} [ {first}, %{before} ], [ {later}, %{latch} ]"
            for phi, kind, first, later in zip(phis, kinds, state, following, strict=True)
        )
        text.start(done)
        return phis
