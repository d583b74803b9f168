"""Control flow: regions that read values from outside and end in `torsh.yield`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Protocol

import numpy as np
from xdsl.dialects.builtin import I64, ArrayAttr, DenseArrayBase, IntegerAttr, StringAttr
from xdsl.ir import Attribute, Region, SSAValue
from xdsl.irdl import (
    operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.traits import IsTerminator, Pure

from torsh_dialect.attributes import Array, extents_of, ints_of, str_of
from torsh_dialect.declare import op
from torsh_dialect.dims import Dim, provably_equal, symbol
from torsh_dialect.dtypes import dtype_of, i1, i64
from torsh_dialect.encodings import joined_device
from torsh_dialect.errors import ShapeError, TorshError
from torsh_dialect.kinds import Control, DefinesSymbols, TensorOp
from torsh_dialect.placement import row_major
from torsh_dialect.types import (
    AnyTensor,
    SequenceType,
    device_of,
    dims_of,
    element_type,
    rank_of,
    tensor,
)


class RunRegion(Protocol):
    """Evaluates a region of a control op with the given block arguments."""

    def __call__(self, region: Region, /, *args: Array) -> Sequence[Array]: ...

    def extent(self, dim: Dim) -> int:
        """The number that an extent is outside the region; 0 where it is not known."""
        ...


@op
class YieldOp(TensorOp):
    """Ends a region with its values.

    torsh.yield %a : (tensor<3xf32>) -> ()
    """

    name = "torsh.yield"
    values = var_operand_def()
    traits = traits_def(IsTerminator(), Pure())

    def infer(self) -> Sequence[Attribute]:
        return ()

    def evaluate(self, *args: Array) -> Sequence[Array]:
        return args


def yielded(region: Region) -> Sequence[SSAValue]:
    """The values that a region ends with.

    Raises:
        ShapeError: It does not end in `torsh.yield`.
    """
    last = region.block.last_op
    if not isinstance(last, YieldOp):
        raise ShapeError("a region must end in torsh.yield (C1)")
    return last.operands


class FreshNames:
    """Hands out the names in an op's `symbols`, for extents that are not known before it runs."""

    def __init__(self, names: ArrayAttr[StringAttr] | None):
        self._names: Iterator[StringAttr] = iter(names or ())

    def next(self) -> Dim:
        """The next symbol.

        Raises:
            ShapeError: There are too few names.
        """
        name = next(self._names, None)
        if name is None:
            raise ShapeError("`symbols` has too few names for the extents that are not known")
        return symbol(str_of(name))


def joined(a: SSAValue, b: SSAValue, fresh: FreshNames) -> Attribute:
    """The type that both values have; an extent that may differ is fresh.

    Raises:
        ShapeError: Element types or ranks differ.
    """
    if a.type == b.type:
        return row_major(a.type)
    if isinstance(a.type, SequenceType) and isinstance(b.type, SequenceType):
        from torsh_dialect.ops.sequence import joined_items

        return SequenceType(joined_items(a.type.item, b.type.item))
    if element_type(a) != element_type(b) or rank_of(a) != rank_of(b):
        raise ShapeError(f"a value is {a.type} here and {b.type} there")
    dims = [
        x if provably_equal(x, y) else fresh.next()
        for x, y in zip(dims_of(a), dims_of(b), strict=True)
    ]
    return tensor(element_type(a), dims, device=common_device(a, b))


def common_device(*values: SSAValue) -> str | None:
    """The device of a value that is one of these, or the next of the other.

    Raises:
        DeviceError: They are on different devices.
    """
    return reduce(joined_device, map(device_of, values))


def unknown_extents(a: Sequence[SSAValue], b: Sequence[SSAValue]) -> int:
    """How many names `joined` needs for the pairs of values."""
    count = 0
    for x, y in zip(a, b, strict=True):
        if isinstance(x.type, SequenceType) or isinstance(y.type, SequenceType):
            continue
        if x.type != y.type and rank_of(x) == rank_of(y):
            count += sum(not provably_equal(*d) for d in zip(dims_of(x), dims_of(y), strict=True))
    return count


@op
class CondOp(Control):
    """The values of the first region where the condition holds, else of the second.

    The regions read values from outside freely. An extent in which they differ is a symbol of
    `symbols`, in order.

    C1: both regions have no arguments and end in `torsh.yield`.
    C2: the condition is one bool.
    C3: both yield as many values, of equal element types and ranks.

    %r = torsh.cond %c { torsh.yield %a : (tensor<3xf32>) -> () } { torsh.yield %b : (tensor<3xf32>) -> () } : (tensor<i1>) -> tensor<3xf32>
    """  # noqa: E501

    name = "torsh.cond"
    condition = operand_def()
    symbols = opt_prop_def(ArrayAttr[StringAttr])
    then = region_def("single_block")
    otherwise = region_def("single_block")
    y = var_result_def()

    def infer(self) -> Sequence[Attribute]:
        if element_type(self.condition) != i1:
            raise ShapeError(f"the condition is {self.condition.type}, expected one bool (C2)")
        first, second = yielded(self.regions[0]), yielded(self.regions[1])
        if len(first) != len(second):
            raise ShapeError(f"the regions yield {len(first)} and {len(second)} values (C3)")
        fresh = FreshNames(self.symbols)
        return [joined(a, b, fresh) for a, b in zip(first, second, strict=True)]

    def evaluate(self, *args: Array) -> Sequence[Array]:
        raise TorshError(f"{self.name} is evaluated by `run`")

    def run(self, region: RunRegion, *args: Array) -> Sequence[Array]:
        """Evaluate the region that the condition picks."""
        return region(self.then if args[0].reshape(()) else self.otherwise)


@op
class LoopOp(Control):
    """Runs the region while its condition holds, at most `trips` times.

    Operands are the trip count (i64; -1 for no limit), the first condition (bool) and the first
    values of what is carried. The region's arguments are the iteration (i64, from 0) and the
    carried values; it yields the next condition, the next carried values, then `scans` values
    that are stacked over the iterations. Results are the last carried values, then the stacks.

    A carried extent that may change from one iteration to the next is a symbol in the type of
    the region's argument (named in `changing`, as pairs of carried value and axis) and a symbol
    of `symbols` in the result. The first extent of each stack is the number of iterations: the
    trip count where it is known and `counted` is set (the condition always holds), else a symbol.

    C1: the region yields a bool, the carried values, then `scans` values.
    C2: a carried value keeps element type, rank and all extents that are not `changing`.

    %r = torsh.loop %n, %t, %a {scans = 0 : i64} { ^bb0(%i : tensor<i64>, %x : tensor<3xf32>): torsh.yield %t, %x : (tensor<i1>, tensor<3xf32>) -> () } : (tensor<i64>, tensor<i1>, tensor<3xf32>) -> tensor<3xf32>
    """  # noqa: E501

    name = "torsh.loop"
    trips = operand_def()
    condition = operand_def()
    carried = var_operand_def()
    scans = prop_def(IntegerAttr[I64])
    extent = opt_prop_def(Attribute)
    changing = opt_prop_def(DenseArrayBase[I64])
    symbols = opt_prop_def(ArrayAttr[StringAttr])
    body = region_def("single_block")
    y = var_result_def()

    def infer(self) -> Sequence[Attribute]:
        if element_type(self.trips) != i64 or element_type(self.condition) != i1:
            raise ShapeError(f"trips and condition are {self.trips.type}, {self.condition.type}")
        values, count = yielded(self.regions[0]), len(self.carried)
        scans = self.scans.value.data
        if len(values) != 1 + count + scans or element_type(values[0]) != i1:
            raise ShapeError(
                f"the region yields {len(values)} values, expected a bool, {count} carried and "
                f"{scans} scanned (C1)"
            )
        fresh = FreshNames(self.symbols)
        found = self._carried_types(values[1 : 1 + count], fresh)
        return [*found, *self._stacks(values[1 + count :], fresh)]

    def _changing(self) -> set[tuple[int, int]]:
        flat = ints_of(self.changing) if self.changing is not None else ()
        return set(zip(flat[::2], flat[1::2], strict=True))

    def _carried_types(self, values: Sequence[SSAValue], fresh: FreshNames) -> list[Attribute]:
        changing, found = self._changing(), list[Attribute]()
        arguments = self.regions[0].block.args[1:]
        for number, trio in enumerate(zip(self.carried, arguments, values, strict=True)):
            if not hasattr(trio[0].type, "element_type"):
                found.append(trio[0].type)
                continue
            if len({(element_type(v), rank_of(v)) for v in trio}) > 1:
                raise ShapeError(f"carried value {number}: {[str(v.type) for v in trio]} (C2)")
            dims: list[Dim] = []
            for axis, extents in enumerate(zip(*map(dims_of, trio), strict=True)):
                if (number, axis) in changing:
                    dims.append(fresh.next())
                elif not all(provably_equal(extents[0], e) for e in extents[1:]):
                    raise ShapeError(
                        f"carried value {number}: axis {axis} has extents "
                        f"{', '.join(map(str, extents))} and is not `changing` (C2)"
                    )
                else:
                    dims.append(extents[0])
            found.append(tensor(element_type(trio[0]), dims, device=common_device(*trio)))
        return found

    def _stacks(self, values: Sequence[SSAValue], fresh: FreshNames) -> list[AnyTensor]:
        if not values:
            return []
        inside = {a for arg in self.regions[0].block.args for a in _symbols(arg)}
        outside = {a for value in self.carried for a in _symbols(value)}
        local = (inside - outside) | self._local_symbols()
        count = fresh.next() if self.extent is None else extents_of(self.extent)[0]
        found: list[AnyTensor] = []
        for value in values:
            dims = [
                fresh.next() if not isinstance(d, int) and d.symbols() & local else d
                for d in dims_of(value)
            ]
            found.append(tensor(element_type(value), (count, *dims), device=device_of(value)))
        return found

    def _local_symbols(self) -> set[str]:
        return {n for inner in self.regions[0].walk() for n in DefinesSymbols.named(inner)}

    def evaluate(self, *args: Array) -> Sequence[Array]:
        raise TorshError(f"{self.name} is evaluated by `run`")

    def run(self, region: RunRegion, *args: Array) -> Sequence[Array]:
        """Evaluate the region as often as trip count and conditions say."""
        trips, going, carried = int(args[0].reshape(())), bool(args[1].reshape(())), args[2:]
        scans = self.scans.value.data
        stacks: list[list[Array]] = [[] for _ in range(scans)]
        step = 0
        while going and (trips < 0 or step < trips):
            condition, *values = region(self.body, np.asarray(step, np.int64), *carried)
            going = bool(condition.reshape(()))
            carried = tuple(values[: len(carried)])
            for stack, value in zip(stacks, values[len(carried) :], strict=True):
                stack.append(value)
            step += 1
        return [*carried, *(self._stacked(region, n, stack) for n, stack in enumerate(stacks))]

    def _stacked(self, region: RunRegion, number: int, stack: list[Array]) -> Array:
        if stack:
            return np.stack(stack)
        value = yielded(self.body)[1 + len(self.carried) + number]
        dims = [region.extent(d) for d in dims_of(value)]
        return np.empty((0, *dims), dtype_of(element_type(value)).numpy)


def _symbols(value: SSAValue) -> set[str]:
    if not hasattr(value.type, "element_type"):
        return set()
    return {name for d in dims_of(value) if not isinstance(d, int) for name in d.symbols()}
