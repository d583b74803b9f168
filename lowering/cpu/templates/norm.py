"""Normalisation of rows: layer norm, RMS norm, and group or instance norm on channel-major rows.

    layer: y = (x - mean) / sqrt(mean((x - mean)^2) + eps) * scale + bias
    rms:   y = x / sqrt(mean(x^2) + eps) * scale + bias

Unit of the parallel range: one row. Argument words: 0 input, 1 output, 2 columns (i64, read only
where they are dynamic), 3 scratch (only where `scratch_bytes` is not 0), 4 scale, 5 bias, 6 mean
and 7 inverse deviation (outputs, one value per row), 8 and on: the hooks'.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from lowering.cpu.templates.epilogue import Hooks
from lowering.cpu.templates.rows import (
    SUM,
    RowShape,
    begin_hook,
    load_row,
    reduce_row,
    scratch_row,
    store_row,
    stored_as,
    sweep,
)
from lowering.cpu.text import Module, Text, Value
from lowering.math.num import Num
from lowering.math.text_prim import TextPrim
from torsh_dialect.target import TargetInfo


@dataclass(frozen=True)
class NormParams:
    """A normalisation of contiguous rows.

    Attributes:
        shape: Columns and types; scale, bias and statistics have the computed type.
        eps: Added to the variance or mean square.
        mode: `layer` subtracts the mean, `rms` does not.
        scale: Whether there is a factor.
        bias: Whether there is an addend.
        channels: 0 where scale and bias belong to columns. Otherwise a row is `channels` runs of
            `columns / channels` elements and scale and bias belong to runs: row `r` uses entries
            `(r % groups) * channels` and on. Instance norm has one channel per row.
        groups: Rows after which the entries of scale and bias begin again.
        statistics: Whether mean and inverse deviation are stored.
        hooks: Fused code around it; it keeps the types of input and output.
    """

    shape: RowShape
    eps: float = 1e-5
    mode: Literal["layer", "rms"] = "layer"
    scale: bool = True
    bias: bool = True
    channels: int = 0
    groups: int = 1
    statistics: bool = False
    hooks: Hooks = field(default_factory=Hooks)


def parallel_extent(rows: int) -> int:
    """Units for `rows` rows."""
    return rows


def scratch_bytes(params: NormParams, columns: int) -> int:
    """Bytes of scratch per worker; only a prologue needs to keep what it computed."""
    return params.shape.scratch_bytes(columns) if params.hooks.prologue else 0


def flops(params: NormParams, rows: int, columns: int) -> int:
    """Operations per element: 3 for a mean and 2 for a mean square, then what is applied."""
    per_element = (4 if params.mode == "layer" else 2) + 1 + params.scale + params.bias
    return rows * columns * per_element


def bytes_moved(params: NormParams, rows: int, columns: int) -> int:
    """Bytes of input and output, each once."""
    return params.shape.bytes_moved(rows, columns)


Read = Callable[[Value, int, Value | None], Value]


@dataclass(frozen=True)
class _Pointers:
    scale: Value | None
    bias: Value | None
    mean: Value | None
    deviation: Value | None


def emit(module: Module, name: str, params: NormParams, target: TargetInfo) -> None:
    """Write kernel `name`; the order of operations is the same on every target."""
    del target
    text, shape = Text(module, name), params.shape
    source, result = text.argument(0, role="x"), text.argument(1, role="y")
    columns = text.argument(2, "i64", "n") if shape.columns is None else str(shape.columns)
    pointers = _Pointers(
        text.argument(4, role="scale") if params.scale else None,
        text.argument(5, role="bias") if params.bias else None,
        text.argument(6, role="mean") if params.statistics else None,
        text.argument(7, role="deviation") if params.statistics else None,
    )
    prologue = begin_hook(text, params.hooks.prologue)
    epilogue = begin_hook(text, params.hooks.epilogue)
    needs_scratch = shape.staged and prologue is not None
    staging = scratch_row(text, shape, 3, columns) if needs_scratch else result

    def row(index: Value, _: list[Value]) -> None:
        offset = text.mul(index, columns)
        x = text.at(source, offset, stored_as(shape.source))
        y = text.at(result, offset, stored_as(shape.result))
        stage = staging if needs_scratch else y

        def first(column: Value, lanes: int, mask: Value | None) -> Value:
            value = load_row(text, shape, x, column, lanes, mask)
            if prologue is None:
                return value
            type = TextPrim(text, lanes).type(shape.kind)
            value = prologue(text, type, value, index, column, lanes, mask)
            store_row(text, shape.computed, value, stage, column, lanes, mask)
            return value

        def again(column: Value, lanes: int, mask: Value | None) -> Value:
            if prologue is None:
                return load_row(text, shape, x, column, lanes, mask)
            return load_row(text, shape.computed, stage, column, lanes, mask)

        def finish(column: Value, lanes: int, mask: Value | None, value: Value) -> None:
            if epilogue is not None:
                type = TextPrim(text, lanes).type(shape.kind)
                value = epilogue(text, type, value, index, column, lanes, mask)
            store_row(text, shape, value, y, column, lanes, mask)

        mean, inverse = _statistics(text, params, columns, first, again)
        for place, value in ((pointers.mean, mean), (pointers.deviation, inverse)):
            if place is not None:
                address = text.at(place, index, shape.element)
                text.store(shape.element, value, address, shape.bytes)
        _apply(text, params, columns, index, pointers, (mean, inverse), again, finish)

    text.loop("%lo", "%hi", 1, row)
    text.finish()


def _statistics(
    text: Text, params: NormParams, columns: Value, first: Read, again: Read
) -> tuple[Value, Value]:
    """Mean (0 for rms) and inverse deviation of a row, in two sweeps."""
    kind = params.shape.kind
    scalar = TextPrim(text, 1)
    size = text.let(f"uitofp i64 {columns} to {params.shape.element}")
    mean = scalar.constant(kind, 0.0)
    read = first
    if params.mode == "layer":
        total = reduce_row(text, kind, columns, SUM, first)
        mean = (scalar.num(kind, total) / scalar.num(kind, size)).value
        read = again

    def square(column: Value, lanes: int, mask: Value | None) -> Value:
        distance = _centred(text, params, mean, read(column, lanes, mask), lanes)
        return (distance * distance).value

    squares = scalar.num(kind, reduce_row(text, kind, columns, SUM, square))
    variance = squares / scalar.num(kind, size)
    return mean, (1.0 / (variance + params.eps).sqrt()).value


def _centred(text: Text, params: NormParams, mean: Value, value: Value, lanes: int) -> Num[Value]:
    prim, kind = TextPrim(text, lanes), params.shape.kind
    x = prim.num(kind, value)
    if params.mode == "rms":
        return x
    return x - prim.num(kind, text.splat(prim.type(kind), mean))


Finish = Callable[[Value, int, Value | None, Value], None]


def _apply(
    text: Text,
    params: NormParams,
    columns: Value,
    row: Value,
    pointers: _Pointers,
    statistics: tuple[Value, Value],
    read: Read,
    finish: Finish,
) -> None:
    """Normalise, scale and shift, by columns or by runs of one channel."""
    kind, shape = params.shape.kind, params.shape
    mean, inverse = statistics

    def run(start: Value, length: Value, entry: Value | None) -> None:
        def step(column: Value, lanes: int, mask: Value | None, _: list[Value]) -> list[Value]:
            prim = TextPrim(text, lanes)
            type = prim.type(kind)

            def parameter(base: Value) -> Num[Value]:
                if entry is None:
                    return prim.num(kind, load_row(text, shape.computed, base, column, lanes, mask))
                one = text.load(shape.element, text.at(base, entry, shape.element), shape.bytes)
                return prim.num(kind, text.splat(type, one))

            value = _centred(text, params, mean, read(column, lanes, mask), lanes)
            value = value * prim.num(kind, text.splat(type, inverse))
            if pointers.scale is not None:
                value = value * parameter(pointers.scale)
            if pointers.bias is not None:
                value = value + parameter(pointers.bias)
            finish(column, lanes, mask, value.value)
            return []

        sweep(text, start, length, [], step)

    if not params.channels:
        run("0", columns, None)
        return
    length = text.udiv(columns, params.channels)
    first_entry = text.mul(text.urem(row, params.groups), params.channels)

    def channel(index: Value, _: list[Value]) -> None:
        start = text.mul(index, length)
        run(start, length, text.add(first_entry, index))

    text.loop(0, params.channels, 1, channel)
