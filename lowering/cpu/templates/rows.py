"""What templates over rows share: loads and stores of any float type, and the order of sums.

A reduction over a row has one order on every target: the row is cut into blocks of 4,096, a
block is summed by 32 virtual lanes in steps of 32 elements, the lanes are added as a tree
(16 + 16, 8 + 8, ...), and block results are added in order. Tails are filled with the identity.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lowering.cpu.rests import remainder, rest_step
from lowering.cpu.templates.epilogue import Epilogue, EpilogueBody, mask_of
from lowering.cpu.text import Text, Value, element_of, is_literal, lanes_of, vector_of
from lowering.math.convert import FORMATS, decode, encode
from lowering.math.num import Num, where
from lowering.math.prim import Kind
from lowering.math.text_prim import TextPrim

VIRTUAL_LANES = 32
BLOCK = 4096

Element = Literal["float", "double", "half", "bfloat"]
ELEMENT_BYTES: dict[str, int] = {"float": 4, "double": 8, "half": 2, "bfloat": 2}
_FORMAT = {"half": FORMATS["f16"], "bfloat": FORMATS["bf16"]}


@dataclass(frozen=True)
class RowShape:
    """What the rows of a template are.

    Attributes:
        columns: Elements of a row if static, else None and they are an argument word.
        source: LLVM element type of the input.
        result: LLVM element type of the output.
    """

    columns: int | None
    source: Element = "float"
    result: Element = "float"

    @property
    def kind(self) -> Kind:
        """The type in which rows are computed: f32, or f64 for doubles."""
        return "f64" if self.source == "double" else "f32"

    @property
    def element(self) -> Element:
        """LLVM's name of the type in which rows are computed."""
        return "double" if self.source == "double" else "float"

    @property
    def computed(self) -> "RowShape":
        """The same rows as computed values on both sides."""
        return RowShape(self.columns, self.element, self.element)

    @property
    def staged(self) -> bool:
        """Whether a row of computed values needs scratch because the output cannot hold it."""
        return self.result != self.element

    def scratch_bytes(self, columns: int) -> int:
        """Bytes of scratch per worker for such a row."""
        return -(-columns * self.bytes // 64) * 64 if self.staged else 0

    def bytes_moved(self, rows: int, columns: int) -> int:
        """Bytes of input and output, each once."""
        return rows * columns * (ELEMENT_BYTES[self.source] + ELEMENT_BYTES[self.result])

    @property
    def bytes(self) -> int:
        """Bytes of one computed element."""
        return ELEMENT_BYTES[self.element]


def stored_as(element: Element) -> str:
    """The LLVM type that holds an element in memory; half precision travels as integers."""
    return "i16" if element in _FORMAT else element


def load_row(
    text: Text, shape: RowShape, base: Value, column: Value, lanes: int, mask: Value | None
) -> Value:
    """Elements of the input as computed values; 0 in lanes outside `mask`."""
    stored = stored_as(shape.source)
    type = vector_of(stored, lanes)
    address = text.at(base, column, stored)
    size = ELEMENT_BYTES[shape.source]
    if mask is None:
        value = text.load(type, address, size)
    else:
        value = text.masked_load(type, address, mask, "zeroinitializer", size)
    if stored != "i16":
        return value
    prim = TextPrim(text, lanes)
    return decode(prim.num("i16", value).to("zext", "i32"), _FORMAT[shape.source]).value


def store_row(
    text: Text,
    shape: RowShape,
    value: Value,
    base: Value,
    column: Value,
    lanes: int,
    mask: Value | None,
) -> None:
    """Round computed values to the output's type and store the lanes of `mask`."""
    stored = stored_as(shape.result)
    if stored == "i16":
        code = encode(TextPrim(text, lanes).num("f32", value), _FORMAT[shape.result])
        value = code.to("trunc", "i16").value
    type, size = vector_of(stored, lanes), ELEMENT_BYTES[shape.result]
    address = text.at(base, column, stored)
    if mask is None:
        text.store(type, value, address, size)
    else:
        text.masked_store(type, value, address, mask, size)


Step = Callable[[Value, int, Value | None, list[Value]], list[Value]]
"""`(column, lanes, mask, accumulators) -> accumulators`."""


def sweep(
    text: Text,
    start: Value,
    length: Value,
    types: list[tuple[str, Value]],
    step: Step,
    rest: Value | None = None,
) -> list[Value]:
    """Visit `length` columns from `start` on in steps of 32, the last one masked.

    Args:
        text: The function being written.
        start: First column.
        length: Number of columns, static or an i64 value.
        types: Types and initial values of the accumulators, vectors of 32 lanes.
        step: Called for 32 columns, or 16 of them where no more are left.
        rest: `length % 32` where that is known.
    """
    lanes = VIRTUAL_LANES
    rest = remainder(text, length, lanes) if rest is None else rest
    whole = text.add(start, text.sub(length, rest))
    values = text.loop(start, whole, lanes, lambda c, v: step(c, lanes, None, v), types)
    if is_literal(rest):
        left = int(rest)
        return step(whole, lanes, mask_of(lanes, left), values) if left else values
    return rest_step(
        text, rest, lanes, [type for type, _ in types], values,
        lambda count, mask, v: step(whole, count, mask, v),
    )  # fmt: skip


def fold_lanes(
    text: Text, type: str, value: Value, combine: Callable[[int, Value, Value], Value]
) -> Value:
    """The tree over lanes: `combine(lanes, low half, high half)` until one element is left."""
    element, lanes = element_of(type), lanes_of(type)
    while lanes > 2:
        half = lanes // 2
        parts: list[Value] = []
        for first in (0, half):
            numbers = ", ".join(f"i32 {first + i}" for i in range(half))
            vectors = f"<{lanes} x {element}> {value}, <{lanes} x {element}> poison"
            parts.append(text.let(f"shufflevector {vectors}, <{half} x i32> <{numbers}>"))
        value, lanes = combine(half, *parts), half
    ends = [text.let(f"extractelement <2 x {element}> {value}, i64 {i}") for i in (0, 1)]
    return combine(1, *ends)


@dataclass(frozen=True)
class Reduction:
    """How a row is reduced: the identity, and how two vectors or scalars are combined."""

    identity: float
    combine: Callable[[Num[Value], Num[Value]], Num[Value]]


SUM = Reduction(0.0, lambda x, y: x + y)
LARGEST = Reduction(float("-inf"), lambda x, y: where(y > x, y, x))
"""The largest that is not NaN: one instruction, for sums of exponentials that show the NaN."""

RowValue = Callable[[Value, int, Value | None], Value]
"""`(column, lanes, mask) -> value` of the elements to reduce."""


def reduce_row(
    text: Text, kind: Kind, columns: Value, reduction: Reduction, value: RowValue
) -> Value:
    """Reduce a row to a scalar in the order that this file's head states."""
    scalar, lanes = TextPrim(text, 1), VIRTUAL_LANES
    wide, first = TextPrim(text, lanes), scalar.constant(kind, reduction.identity)

    def combined(p: TextPrim, a: Value, b: Value) -> Value:
        return reduction.combine(p.num(kind, a), p.num(kind, b)).value

    def step(column: Value, lanes: int, mask: Value | None, v: list[Value]) -> list[Value]:
        prim, x = TextPrim(text, lanes), value(column, lanes, mask)
        if mask is not None:
            x = text.select(prim.type(kind), mask, x, prim.constant(kind, reduction.identity))
        return [combined(prim, v[0], x)]

    def tree(lanes: int, a: Value, b: Value) -> Value:
        return combined(TextPrim(text, lanes), a, b)

    def block(start: Value, length: Value, rest: Value) -> Value:
        types = [(wide.type(kind), wide.constant(kind, reduction.identity))]
        found = sweep(text, start, length, types, step, rest)[0]
        return fold_lanes(text, wide.type(kind), found, tree)

    rest = remainder(text, columns, lanes)
    if is_literal(columns) and int(columns) <= BLOCK:
        return block("0", columns, rest)

    def add_block(start: Value, v: list[Value]) -> list[Value]:
        return [combined(scalar, v[0], block(start, str(BLOCK), "0"))]

    # Whole blocks, then the last one, which may be shorter: most rows have no other.
    before = text.maximum(text.sub(columns, 1), 0)
    last = text.sub(before, remainder(text, before, BLOCK))
    total = text.loop(0, last, BLOCK, add_block, [(scalar.type(kind), first)])[0]
    return combined(scalar, total, block(last, text.sub(columns, last), rest))


def scratch_row(text: Text, shape: RowShape, word: int, columns: Value) -> Value:
    """The row of scratch of the calling worker, whose base is argument `word`."""
    size = text.mul(text.ceildiv(text.mul(columns, shape.bytes), 64), 64)
    return text.at(text.argument(word, role="scratch"), text.mul("%worker", size), "i8")


def begin_hook(text: Text, hook: Epilogue | None) -> EpilogueBody | None:
    """Start a hook in this function; None where there is none."""
    return None if hook is None else hook.begin(text)
