"""Values while `kern` becomes LLVM text: which are uniform, which vary over lanes, and how.

Inside `kern.lanes` a value is uniform (one scalar for all lanes) or varying (a vector). An index
that moves by a constant from lane to lane stays a scalar base with a step, so that its loads
and stores are contiguous vector accesses.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from xdsl.dialects.builtin import IndexType
from xdsl.ir import Attribute, OpResult, SSAValue

from lowering.cpu.text import Text, Value, is_literal, vector_of
from lowering.kern import dialect as kern
from torsh_dialect.dtypes import dtype_of, i1

LONGEST_PLACE = 32
"""Operands that are looked at to tell that an index is no data."""

FLOATS = {"f32": "float", "f64": "double"}


def memory_type(element: Attribute) -> str:
    """The LLVM type of one element in memory."""
    if isinstance(element, IndexType):
        return "i64"
    row = dtype_of(element)
    return FLOATS.get(row.name) or f"i{8 * row.bytes}"


def register_type(element: Attribute) -> str:
    """The LLVM type of one element in a register: bools are `i1`, halves their bits."""
    if element == i1:
        return "i1"
    return memory_type(element)


def element_bytes(element: Attribute) -> int:
    """Bytes of one element in memory."""
    return 8 if isinstance(element, IndexType) else dtype_of(element).bytes


def is_float_register(element: Attribute) -> bool:
    """Whether arithmetic on `element` uses LLVM floats."""
    return register_type(element) in ("float", "double")


def is_unsigned(element: Attribute) -> bool:
    """Whether integer arithmetic on `element` is unsigned."""
    return not isinstance(element, IndexType) and dtype_of(element).kind in ("uint", "bool")


def float_text(value: float, type: str) -> Value:
    """`value` rounded to `type` as LLVM spells it, bit for bit."""
    if type == "float":
        try:
            value = struct.unpack("<f", struct.pack("<f", value))[0]
        except OverflowError:
            value = float("inf") if value > 0 else float("-inf")
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


@dataclass(frozen=True)
class Val:
    """A value in the text.

    Attributes:
        text: SSA name or literal; of an index with `step`, its value in lane 0.
        type: LLVM type of one element.
        lanes: 1 for a uniform value, else the width of the vector it is.
        step: For a varying index: what it grows by from lane to lane; None for a real vector.
        near: Whether an i64 is an index, or a sum of some: a number that is far from overflow.
    """

    text: Value
    type: str
    lanes: int = 1
    step: int | None = None
    near: bool = False

    @property
    def is_literal(self) -> bool:
        """Whether it is an integer literal."""
        return self.step is None and self.lanes == 1 and is_literal(self.text)

    @property
    def is_affine(self) -> bool:
        """Whether it is uniform or grows by a constant from lane to lane."""
        return self.lanes == 1 or self.step is not None

    def vector(self, text: Text, lanes: int) -> Value:
        """The value as `<lanes x type>` (or the scalar itself for one lane)."""
        whole = vector_of(self.type, lanes)
        if self.step is not None:
            base = text.splat(whole, self.text)
            if self.step == 0:
                return base
            offsets = ", ".join(f"{self.type} {n * self.step}" for n in range(lanes))
            return text.binary("add", whole, base, f"<{offsets}>")
        if self.lanes == lanes:
            return self.text
        return splat(text, self.type, self.text, lanes)


def is_place(value: SSAValue) -> bool:
    """Whether an index is made of loops' indices, extents and constants: not of data."""
    work = [value]
    for _ in range(LONGEST_PLACE):
        if not work:
            return True
        current = work.pop()
        if isinstance(current, OpResult) and isinstance(current.op, kern.BinaryOp):
            work.extend(current.op.operands)
        elif isinstance(current, OpResult) and not isinstance(current.op, kern.ConstOp):
            return False
    return not work


def splat(text: Text, type: str, scalar: Value, lanes: int) -> Value:
    """All of `lanes` lanes set to `scalar`; a constant where the scalar is one."""
    if lanes == 1:
        return scalar
    if not scalar.startswith("%"):
        return f"splat ({type} {scalar})"
    return text.splat(vector_of(type, lanes), scalar)
