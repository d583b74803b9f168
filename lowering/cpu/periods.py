"""`kern.lanes` that are split where quotients of their index change.

In a run of lanes over `i` in which `(i + c) // d` is one number, that quotient is uniform and
`(i + c) % d` grows by 1 from lane to lane: what is loaded there is a vector, not a gather. From run
to run quotients and rests count on, so one division finds those of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdsl.ir import Block, Operation, SSAValue

from lowering.cpu import arithmetic
from lowering.cpu.emitter import Emitter
from lowering.cpu.text import Text, Value, is_literal
from lowering.kern import dialect as kern
from lowering.kern.dialect import INDEX
from torsh_dialect.attributes import str_of

LEAST_PERIOD = 8
"""Lanes of a run from which it takes less time than gathering them."""


@dataclass(frozen=True)
class Period:
    """A division of `index + offset` by `divisor` in a loop's body.

    Attributes:
        dividend: The divided `kern` value; None of others has its quotient.
        divisor: The `kern` value that it is divided by.
        offset: What the dividend is more than the index.
        extent: The divisor in the text.
    """

    dividend: SSAValue
    divisor: SSAValue
    offset: Value
    extent: Value


def periods_of(e: Emitter, block: Block) -> list[Period]:
    """The divisions of the index of `block` by numbers from outside; none if one has short runs.

    A division of anything else, or by a number that varies, stays as it is.
    """
    found: dict[tuple[SSAValue, SSAValue], Period] = {}
    for op in block.ops:
        if not _is_division(op) or op.operands[1] not in e.values:
            continue
        dividend, divisor = op.operands
        offset, extent = offset_of(e, block, dividend), e.scalar(divisor)
        if offset is None:
            continue
        if is_literal(extent) and int(extent) < LEAST_PERIOD:
            return []
        found[dividend, divisor] = Period(dividend, divisor, offset, extent)
    return list(found.values())


def _is_division(op: Operation) -> bool:
    is_index = isinstance(op, kern.BinaryOp) and op.y.type == INDEX
    return is_index and str_of(op.properties["kind"]) in ("floordiv", "mod")


def offset_of(e: Emitter, block: Block, value: SSAValue) -> Value | None:
    """What `value` is more than the index of `block`; None if that is not one number."""
    if value is block.args[0]:
        return "0"
    op = value.owner
    if not isinstance(op, kern.BinaryOp) or str_of(op.kind) not in ("add", "sub"):
        return None
    (a, b), kind = op.operands, str_of(op.kind)
    if kind == "add" and b not in e.values:
        a, b = b, a
    if b not in e.values or e.get(b).lanes != 1 or (rest := offset_of(e, block, a)) is None:
        return None
    return (e.text.add if kind == "add" else e.text.sub)(rest, e.scalar(b))


def by_runs(
    e: Emitter,
    periods: Sequence[Period],
    lower: Value,
    upper: Value,
    lanes: Callable[[Value, Value], None],
) -> None:
    """`lanes(first, end)` for the runs of `range(lower, upper)`, with `e.quotients` set for each.

    Divisors that only the run knows may be too short for that: then it is called for all of it.
    """
    text = e.text
    long: Value | None = None
    for period in periods:
        if not is_literal(period.extent):
            one = text.compare("sge", period.extent, LEAST_PERIOD)
            long = one if long is None else text.binary("and", "i1", long, one)
    if long is None:
        _runs(e, periods, lower, upper, lanes)
        return
    text.when(long, lambda: _runs(e, periods, lower, upper, lanes))
    text.when(text.binary("xor", "i1", long, "true"), lambda: lanes(lower, upper))


def _runs(
    e: Emitter,
    periods: Sequence[Period],
    lower: Value,
    upper: Value,
    lanes: Callable[[Value, Value], None],
) -> None:
    text = e.text
    first = [lower]
    for period in periods:
        place = text.add(lower, period.offset)
        quotient = arithmetic.binary(text, "floordiv", INDEX, place, period.extent, 1)
        if place == "0":
            quotient = "0"
        first += [quotient, text.sub(place, text.mul(quotient, period.extent))]

    def run(state: list[Value]) -> list[Value]:
        start, *counts = state
        places = list(zip(periods, counts[::2], counts[1::2], strict=True))
        end = upper
        for period, quotient, rest in places:
            end = text.minimum(end, text.add(start, text.sub(period.extent, rest)))
            e.quotients[period.dividend, period.divisor] = quotient
        lanes(start, end)
        following = [end]
        for period, quotient, rest in places:
            moved = text.add(rest, text.sub(end, start))
            over = text.compare("sge", moved, period.extent)
            following.append(text.choose(over, text.add(quotient, 1), quotient))
            following.append(text.choose(over, "0", moved))
        return following

    _while_below(text, first, upper, run)
    for period in periods:
        del e.quotients[period.dividend, period.divisor]


def _while_below(
    text: Text, first: Sequence[Value], upper: Value, body: Callable[[list[Value]], list[Value]]
) -> None:
    """Repeat `body(state)`, which gives the next state, while the first number is below `upper`."""
    head, done = text.label("run"), text.label("done")
    before = text.block
    text.branch_if(text.compare("slt", first[0], upper), head, done)
    text.start(head)
    phis = [text.fresh("at") for _ in first]
    place = len(text.lines)
    text.lines.append("")
    following = body(phis)
    latch = text.block
    text.branch_if(text.compare("slt", following[0], upper), head, done)
    rows = zip(phis, first, following, strict=True)
    text.lines[place] = "\n".join(
        f"  {phi} = phi i64 [ {start}, %{before} ], [ {later}, %{latch} ]"
        for phi, start, later in rows
    )
    text.start(done)
