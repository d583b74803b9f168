"""Softmax and log-softmax over the last axis: `y = exp(x - max) / sum`, `y = x - max - log sum`.

Unit of the parallel range: one row. Argument words: 0 input, 1 output, 2 columns (i64, read only
where they are dynamic), 3 scratch (only where `scratch_bytes` is not 0), 4 and on: the hooks'.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from lowering.cpu.templates.epilogue import Hooks
from lowering.cpu.templates.rows import (
    LARGEST,
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
from lowering.math.exponential import exp_small
from lowering.math.logarithm import log
from lowering.math.num import where
from lowering.math.text_prim import TextPrim
from torsh_dialect.target import TargetInfo


@dataclass(frozen=True)
class SoftmaxParams:
    """A softmax over contiguous rows.

    Attributes:
        shape: Columns and types.
        log: Whether the logarithm of the softmax is wanted.
        hooks: Fused code around it; it keeps the types of input and output.
    """

    shape: RowShape
    log: bool = False
    hooks: Hooks = field(default_factory=Hooks)


def parallel_extent(rows: int) -> int:
    """Units for `rows` rows."""
    return rows


def scratch_bytes(params: SoftmaxParams, columns: int) -> int:
    """Bytes of scratch per worker."""
    return params.shape.scratch_bytes(columns)


def flops(rows: int, columns: int) -> int:
    """Operations: comparison, subtraction, exp, sum and product count one each."""
    return rows * columns * 5


def bytes_moved(params: SoftmaxParams, rows: int, columns: int) -> int:
    """Bytes of input and output, each once."""
    return params.shape.bytes_moved(rows, columns)


def emit(module: Module, name: str, params: SoftmaxParams, target: TargetInfo) -> None:
    """Write kernel `name`; the order of operations is the same on every target."""
    del target
    text, shape = Text(module, name), params.shape
    source, result = text.argument(0, role="x"), text.argument(1, role="y")
    columns = text.argument(2, "i64", "n") if shape.columns is None else str(shape.columns)
    staging = scratch_row(text, shape, 3, columns) if shape.staged else result
    prologue = begin_hook(text, params.hooks.prologue)
    epilogue = begin_hook(text, params.hooks.epilogue)
    computed = shape.computed

    def row(index: Value, _: list[Value]) -> None:
        offset = text.mul(index, columns)
        x = text.at(source, offset, stored_as(shape.source))
        y = text.at(result, offset, stored_as(shape.result))
        stage = staging if shape.staged else y

        def loaded(column: Value, lanes: int, mask: Value | None) -> Value:
            value = load_row(text, shape, x, column, lanes, mask)
            if prologue is None:
                return value
            type = TextPrim(text, lanes).type(shape.kind)
            value = prologue(text, type, value, index, column, lanes, mask)
            store_row(text, computed, value, stage, column, lanes, mask)
            return value

        def again(column: Value, lanes: int, mask: Value | None) -> Value:
            if prologue is None:
                return load_row(text, shape, x, column, lanes, mask)
            return load_row(text, computed, stage, column, lanes, mask)

        largest = reduce_row(text, shape.kind, columns, LARGEST, loaded)
        total = _sum_of_exponentials(text, params, columns, largest, again, stage)

        def finish(column: Value, lanes: int, mask: Value | None, value: Value) -> None:
            if epilogue is not None:
                type = TextPrim(text, lanes).type(shape.kind)
                value = epilogue(text, type, value, index, column, lanes, mask)
            store_row(text, shape, value, y, column, lanes, mask)

        if params.log:
            _shift_row(text, params, columns, largest, total, again, finish)
        else:
            _scale_row(text, params, columns, total, stage, finish)

    text.loop("%lo", "%hi", 1, row)
    text.finish()


Read = Callable[[Value, int, Value | None], Value]
Finish = Callable[[Value, int, Value | None, Value], None]


def _sum_of_exponentials(
    text: Text, params: SoftmaxParams, columns: Value, largest: Value, read: Read, stage: Value
) -> Value:
    """The row's sum of `exp(x - largest)`; softmax also keeps the exponentials in `stage`."""
    kind = params.shape.kind
    computed = params.shape.computed
    scalar = TextPrim(text, 1).num(kind, largest)
    # A row of nothing but -inf has no finite maximum; 0 keeps exp(-inf - 0) = 0 and 0 / 0 = NaN.
    top = where(scalar.equals(float("-inf")), 0.0, scalar).value

    def exponential(column: Value, lanes: int, mask: Value | None) -> Value:
        prim = TextPrim(text, lanes)
        shift = prim.num(kind, text.splat(prim.type(kind), top))
        value = exp_small(prim.num(kind, read(column, lanes, mask)) - shift).value
        if not params.log:
            store_row(text, computed, value, stage, column, lanes, mask)
        return value

    return reduce_row(text, kind, columns, SUM, exponential)


def _scale_row(
    text: Text,
    params: SoftmaxParams,
    columns: Value,
    total: Value,
    stage: Value,
    finish: Finish,
) -> None:
    kind = params.shape.kind
    computed = params.shape.computed
    inverse = (1.0 / TextPrim(text, 1).num(kind, total)).value

    def step(column: Value, lanes: int, mask: Value | None, _: list[Value]) -> list[Value]:
        prim = TextPrim(text, lanes)
        factor = prim.num(kind, text.splat(prim.type(kind), inverse))
        value = prim.num(kind, load_row(text, computed, stage, column, lanes, mask))
        finish(column, lanes, mask, (value * factor).value)
        return []

    sweep(text, "0", columns, [], step)


def _shift_row(
    text: Text,
    params: SoftmaxParams,
    columns: Value,
    largest: Value,
    total: Value,
    read: Read,
    finish: Finish,
) -> None:
    kind = params.shape.kind
    logarithm = log(TextPrim(text, 1).num(kind, total)).value

    def step(column: Value, lanes: int, mask: Value | None, _: list[Value]) -> list[Value]:
        prim = TextPrim(text, lanes)
        top = prim.num(kind, text.splat(prim.type(kind), largest))
        shift = prim.num(kind, text.splat(prim.type(kind), logarithm))
        value = prim.num(kind, read(column, lanes, mask))
        finish(column, lanes, mask, ((value - top) - shift).value)
        return []

    sweep(text, "0", columns, [], step)
