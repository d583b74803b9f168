"""Whether integers, bools and indices that differ from the source's are right nevertheless.

An argmax, comparison or rounding may fall to either side where the float64 margin is below our own
float error. That is shown, not guessed: the imported module is evaluated in float64 as it is; with
our floats in place of float64's wherever a float decides an integer; and with errors of the same
size in other directions. Where the evaluations differ, the margin is below the error. Our floats
may differ from float64's by `ROUNDINGS` roundings of the largest magnitude at most, or nothing is
explained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from xdsl.dialects.builtin import FunctionType, ModuleOp, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import BlockArgument, Operation, SSAValue

from torsh_dialect.attributes import Array, names_attribute
from torsh_dialect.context import Context
from torsh_dialect.dtypes import dtype_of, dtype_of_numpy
from torsh_dialect.evaluate import Evaluator, Scope
from torsh_dialect.kinds import Elementwise, TensorOp
from torsh_dialect.ops.elementwise import (
    AddOp,
    FloorDivOp,
    RemainderOp,
    SignOp,
    SubOp,
    TruncDivOp,
)
from torsh_dialect.ops.rounding import CeilOp, CopySignOp, FloorOp, RoundOp, TruncOp
from torsh_dialect.types import element_type
from torsh_dialect.weights import WeightStore
from torsh_fx.wide import wide_array, wide_module

if TYPE_CHECKING:
    from torsh_fx.compiled import CompiledModule

ROUNDINGS = 32
"""How far a float may be from float64's, in roundings of the largest magnitude."""

EPSILON = {"f64": 2.0**-52, "f32": 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7, "c64": 2.0**-23}
"""Distance from 1 to the next number; f64 for others."""

Place = tuple[int, int]
"""A use: position of an op in the block of `@main`, and of one of its operands."""


def is_float(value: SSAValue) -> bool:
    """Whether it is a tensor of floats or complex numbers."""
    kind = value.type
    if not isinstance(kind, TensorType):
        return False
    return dtype_of(element_type(kind)).kind in ("float", "complex")  # pyright: ignore[reportUnknownArgumentType]


JUMPS = (SignOp, FloorOp, CeilOp, TruncOp, RoundOp, TruncDivOp, FloorDivOp, RemainderOp, CopySignOp)
"""Ops whose float results jump where their operands change little."""


def decides(op: Operation) -> bool:
    """Whether floats decide something in the op: a result that is no float, or one that jumps."""
    return isinstance(op, TensorOp) and (
        isinstance(op, JUMPS) or not all(map(is_float, op.results))
    )


def main_of(module: ModuleOp) -> FuncOp:
    """The function `@main`."""
    return next(f for f in module.ops if isinstance(f, FuncOp) and f.sym_name.data == "main")


def deciding(module: ModuleOp) -> dict[Place, SSAValue]:
    """The computed floats of `@main` that decide something, by where they are used."""
    return {
        (number, index): operand
        for number, op in enumerate(main_of(module).body.block.ops)
        if decides(op)
        for index, operand in enumerate(op.operands)
        if is_float(operand) and not isinstance(operand, BlockArgument)
    }


Direction = Callable[[Operation, int, Any], Any]
"""From an operand of an op, and its error, to another error of the same size."""


def mirrored(op: Operation, index: int, error: Any) -> Any:
    """The error the other way round."""
    return -error


def apart(op: Operation, index: int, error: Any) -> Any:
    """What is compared goes apart: operands of elementwise ops, neighbours within others."""
    size: Array = np.abs(error)
    if isinstance(op, Elementwise):
        return size if index == 0 else -cast(Any, size)
    sign: Array = 1 - 2 * (np.add.reduce(np.indices(size.shape)) % 2)
    return cast(Any, sign) * size


def together(op: Operation, index: int, error: Any) -> Any:
    """The opposite of `apart`."""
    return -apart(op, index, error)


@dataclass
class Deciding(Evaluator):
    """Evaluates a module in float64, with given floats in the places where they decide.

    Attributes:
        floats: By op and operand.
        direction: Where their errors go, other than where they do; None for as they are.
        worst: The largest excess of a given float's error over what it may be; 0 for none.
    """

    floats: Mapping[Operation, Mapping[int, Array]] = field(
        default_factory=dict[Operation, Mapping[int, Array]]
    )
    direction: Direction | None = None
    worst: float = 0.0

    def _op(self, op: Operation, operands: Sequence[Array], scope: Scope) -> Sequence[Array]:
        used = list(operands)
        for index, ours in self.floats.get(op, {}).items():
            exact = operands[index]
            beyond = excess(ours, exact, _size(op.operands[index], scope.values))
            if self.direction is None:
                self.worst = max(self.worst, beyond)
                used[index] = wide_array(ours)
            elif not beyond:  # else it follows from another decision, which fell another way
                finite = np.isfinite(exact)
                error = np.where(finite, wide_array(ours), 0) - np.where(finite, exact, 0)
                used[index] = cast(Any, exact) + self.direction(op, index, error)
        return super()._op(op, used, scope)


def excess(ours: Array, exact: Array, size: float) -> float:
    """By how much floats are further from float64's than they may be; 0 if they are not."""
    if ours.shape != exact.shape:
        return float("inf")
    mine = cast(Any, wide_array(ours))
    finite = np.isfinite(exact)
    if not np.array_equal(mine[~finite], exact[~finite], equal_nan=True):
        return float("inf")
    limit = ROUNDINGS * EPSILON.get(dtype_of_numpy(ours.dtype).name, 2.0**-52) * size
    error = float(np.abs(mine[finite] - exact[finite]).max(initial=0))
    return 0.0 if error <= limit else error - limit


def _size(value: SSAValue, values: Mapping[SSAValue, Array]) -> float:
    """The largest magnitude of a float and, through sums and differences, of their terms."""
    op = value.owner
    terms = op.operands if isinstance(op, AddOp | SubOp) else ()
    array = cast(Any, values[value])
    own = float(np.abs(array[np.isfinite(array)]).max(initial=0))
    return max([own, *(_size(term, values) for term in terms)])


@dataclass(frozen=True)
class Evaluations:
    """The outputs of one call of the imported module.

    Attributes:
        exact: In float64.
        ours: With our floats where floats decide.
        others: With errors of the same size in other directions.
    """

    exact: Sequence[Array]
    ours: Sequence[Array]
    others: Sequence[Sequence[Array]]

    def explains(self, index: int, mine: Array, source: Array) -> Array:
        """Where an output may differ from the source's in float64: bools of its shape."""
        exact, ours = self.exact[index], self.ours[index]
        runs = [ours, *(outputs[index] for outputs in self.others)]
        if any(run.shape != mine.shape for run in (exact, *runs)):
            return np.zeros(mine.shape, bool)
        undecided = np.logical_or.reduce([run != exact for run in runs])
        return (mine == ours) & (undecided | (exact == source))


class Margins:
    """What an imported module gives in float64, and with our floats where they decide.

    Args:
        compiled: The model. It is compiled once more, with those floats as further outputs, when
            the first call asks.
    """

    def __init__(self, compiled: CompiledModule):
        self._compiled = compiled
        self._places = deciding(compiled.module)

    def evaluations(self, inputs: Sequence[Array]) -> Evaluations | None:
        """The outputs of a call, evaluated in several ways; None if our floats are too far off."""
        wide = [wide_array(array) for array in inputs]
        module, weights = self._wide
        taps = self._tapped.run(list(inputs))[-len(self._values) :] if self._values else []
        ours = dict(zip(self._values, taps, strict=True))
        ops = list(main_of(module).body.block.ops)
        floats: dict[Operation, dict[int, Array]] = {}
        for (number, index), value in self._places.items():
            floats.setdefault(ops[number], {})[index] = ours[value]
        count = len(self._compiled.output_names)
        ours_in = Deciding(module, weights, floats)
        found = ours_in.call("main", *wide)[:count]
        if ours_in.worst:
            return None
        others = [
            Deciding(module, weights, floats, direction).call("main", *wide)[:count]
            for direction in (mirrored, apart, together)
        ]
        return Evaluations(Evaluator(module, weights).call("main", *wide)[:count], found, others)

    @cached_property
    def _wide(self) -> tuple[ModuleOp, WeightStore]:
        arrays = {name: wide_array(array) for name, array in self._compiled.weights.items()}
        return wide_module(self._compiled.module), WeightStore(arrays)

    @cached_property
    def _values(self) -> list[SSAValue]:
        return list(dict.fromkeys(self._places.values()))

    @cached_property
    def _tapped(self) -> CompiledModule:
        from torsh_fx.compilation import compile_imported

        compiled = self._compiled
        copies: dict[SSAValue, SSAValue] = {}
        module = compiled.module.clone(value_mapper=copies)
        main = main_of(module)
        end = main.body.block.last_op
        assert end is not None
        end.operands = [*end.operands, *(copies[value] for value in self._values)]
        kinds = [operand.type for operand in end.operands]
        main.function_type = FunctionType.from_lists([a.type for a in main.args], kinds)
        names = (*compiled.imported.outputs, *(f"tap.{n}" for n in range(len(self._values))))
        main.attributes["result_names"] = names_attribute(names)
        imported = replace(
            compiled.imported, module=module, outputs=names, weights=compiled.weights
        )
        return compile_imported(imported, Context(target=compiled.target))
