"""Masks that are neighbouring lanes: two scalars say which, so that their meets stay cheap.

The text of a mask is an ordinary vector; instruction selection drops it where only its span is
used. Masks stand before the loops that they do not depend on.
"""

from __future__ import annotations

from lowering.cpu.text import Span, Text, Value, is_literal, vector_of


def mask_of(text: Text, span: Span, lanes: int) -> Value:
    """The mask of the lanes `[first, end)`; both may be negative or beyond the lanes."""
    first, end = span
    if is_literal(first) and is_literal(end):
        inside = (int(first) <= n < int(end) for n in range(lanes))
        return "<" + ", ".join(f"i1 {int(lane)}" for lane in inside) + ">"
    return text.outside(("mask", span, lanes), span, lambda: _written(text, span, lanes))


def _written(text: Text, span: Span, lanes: int) -> Value:
    first, end = span
    parts: list[Value] = []
    if not (is_literal(end) and int(end) >= lanes):
        parts.append(_against(text, "slt", end, lanes))
    if not (is_literal(first) and int(first) <= 0):
        parts.append(_against(text, "sge", first, lanes))
    type = vector_of("i1", lanes)
    mask = text.binary("and", type, *parts) if len(parts) == 2 else parts[0]
    text.spans[mask] = span
    return mask


def _against(text: Text, order: str, bound: Value, lanes: int) -> Value:
    type = vector_of("i32", lanes)
    number = bound if is_literal(bound) else text.let(f"trunc i64 {bound} to i32")
    places = ", ".join(f"i32 {n}" for n in range(lanes))
    return text.let(f"icmp {order} {type} <{places}>, {text.splat(type, number)}", "mask")


def span_of(text: Text, mask: Value) -> Span | None:
    """The lanes of a mask, where they are known to be neighbours."""
    if mask in text.spans:
        return text.spans[mask]
    if not mask.startswith("<"):
        return None
    lanes = [n for n, lane in enumerate(mask[1:-1].split(", ")) if lane in ("i1 1", "i1 true")]
    if lanes and lanes[-1] - lanes[0] + 1 != len(lanes):
        return None
    return (str(lanes[0]), str(lanes[-1] + 1)) if lanes else ("0", "0")


def meet(text: Text, a: Value, b: Value, lanes: int) -> Value:
    """The lanes that are in both of two masks."""
    first, second = span_of(text, a), span_of(text, b)
    if first is None or second is None:
        return text.binary("and", vector_of("i1", lanes), a, b)

    def write() -> Value:
        start, end = text.maximum(first[0], second[0]), text.minimum(first[1], second[1])
        return mask_of(text, (start, end), lanes)

    return text.outside(("meet", first, second, lanes), (*first, *second), write)


def where(text: Text, condition: Value, mask: Value, lanes: int) -> Value | None:
    """The lanes of a mask if a scalar condition holds, else none; None for other masks."""
    span = span_of(text, mask)
    if span is None:
        return None

    def write() -> Value:
        return mask_of(text, (span[0], text.choose(condition, span[1], span[0])), lanes)

    return text.outside(("where", condition, span, lanes), (condition, *span), write)
