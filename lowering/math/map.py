"""A kernel that applies one formula to arrays, element by element.

Argument words: one pointer per operand, one for the result. The parallel range is the elements.
"""

from collections.abc import Callable, Sequence

from lowering.cpu.text import Module, Text, Value
from lowering.math.num import Num
from lowering.math.prim import BITS, Kind
from lowering.math.text_prim import ELEMENT, TextPrim

Formula = Callable[..., Num[Value]]


def emit_map(
    module: Module, name: str, formula: Formula, operands: Sequence[Kind], result: Kind, lanes: int
) -> None:
    """Add the kernel `name` to `module`.

    Args:
        module: Receives the function.
        name: The kernel's symbol.
        formula: Takes one `Num` per operand, returns the result.
        operands: Element types of the operand arrays.
        result: Element type of the result array.
        lanes: Elements per step; what is left over is done one by one, to the same bits.
    """
    text = Text(module, name)
    pointers = [text.argument(i) for i in range(len(operands) + 1)]

    def step(prim: TextPrim, index: Value) -> None:
        loaded = [
            prim.num(kind, text.load(prim.type(kind), _at(text, p, index, kind), BITS[kind] // 8))
            for p, kind in zip(pointers[:-1], operands, strict=True)
        ]
        address = _at(text, pointers[-1], index, result)
        text.store(prim.type(result), formula(*loaded).value, address, BITS[result] // 8)

    whole = text.mul(text.sdiv(text.sub("%hi", "%lo"), lanes), lanes)
    middle = text.add("%lo", whole)
    vector, scalar = TextPrim(text, lanes), TextPrim(text, 1)
    text.loop("%lo", middle, lanes, lambda i, _: step(vector, i))
    if lanes > 1:
        text.loop(middle, "%hi", 1, lambda i, _: step(scalar, i))
    text.finish()


def _at(text: Text, pointer: Value, index: Value, kind: Kind) -> Value:
    return text.at(pointer, index, ELEMENT[kind])
