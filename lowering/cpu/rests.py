"""What is left of a loop after its whole vectors, where only the run knows how much."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lowering.cpu.lanes import first_lanes
from lowering.cpu.text import Text, Value, element_of, is_literal, lanes_of, vector_of

Values = list[Value]

RestStep = Callable[[int, Value, Values], Values]
"""`(lanes, mask, values) -> values`: a step of which only the lanes of `mask` are real."""


def remainder(text: Text, a: Value, power: int) -> Value:
    """`a % power` for an i64 that is not negative and a power of two."""
    if is_literal(a) or power == 1:
        return text.urem(a, power)
    return text.binary("and", "i64", a, str(power - 1))


def either(
    text: Text,
    condition: Value,
    then: Callable[[], Values],
    otherwise: Callable[[], Values],
    types: Sequence[str],
) -> Values:
    """The values, of `types`, of `then` where `condition` (i1) holds, else of `otherwise`."""
    labels, done = (text.label("then"), text.label("else")), text.label("done")
    text.branch_if(condition, *labels)
    ends: list[tuple[Values, str]] = []
    for label, body in zip(labels, (then, otherwise), strict=True):
        text.start(label)
        ends.append((body(), text.block))
        text.branch(done)
    text.start(done)
    return [
        text.let(f"phi {type} " + ", ".join(f"[ {v[n]}, %{block} ]" for v, block in ends))
        for n, type in enumerate(types)
    ]


def rest_step(
    text: Text, rest: Value, width: int, types: Sequence[str], values: Values, step: RestStep
) -> Values:
    """`step` for the first `rest` of `width` lanes, none to all of them but one.

    Values are vectors of `width` lanes, of `types`. Up to half of the lanes are a step of half
    the width, which leaves the others as they are: rows are often little longer than a multiple.

    Returns:
        What the values are then.
    """

    def whole() -> Values:
        return step(width, first_lanes(text, rest, width), values)

    def half() -> Values:
        low = [_half(text, t, v, 0) for t, v in zip(types, values, strict=True)]
        new = step(width // 2, first_lanes(text, rest, width // 2), low)
        return [_with_low(text, t, v, n) for t, v, n in zip(types, values, new, strict=True)]

    def some() -> Values:
        return either(text, text.compare("ule", rest, width // 2), half, whole, types)

    return either(text, text.compare("ne", rest, 0), some, lambda: values, types)


def _half(text: Text, type: str, value: Value, start: int) -> Value:
    half = lanes_of(type) // 2
    numbers = ", ".join(f"i32 {start + n}" for n in range(half))
    return text.let(f"shufflevector {type} {value}, {type} poison, <{half} x i32> <{numbers}>")


def _with_low(text: Text, type: str, value: Value, low: Value) -> Value:
    """`value` with `low` in the first half of its lanes."""
    lanes = lanes_of(type)
    half = vector_of(element_of(type), lanes // 2)
    high = _half(text, type, value, lanes // 2)
    numbers = ", ".join(f"i32 {n}" for n in range(lanes))
    return text.let(f"shufflevector {half} {low}, {half} {high}, <{lanes} x i32> <{numbers}>")
