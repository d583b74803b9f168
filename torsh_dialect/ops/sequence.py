"""Sequences and optional values: lists of tensors that grow and shrink while a program runs.

Their reference values are Python lists, and None for an optional value that is not there. Extents
that differ between the items of a sequence are the symbol `any` in its type; where one item is
taken out, its unknown extents get the names in `symbols`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import (
    I64,
    ArrayAttr,
    BoolAttr,
    IntegerAttr,
    StringAttr,
    TensorType,
    UnrankedTensorType,
)
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    var_operand_def,
)

from torsh_dialect.attributes import Array, bool_of, extents_of, str_of
from torsh_dialect.declare import op
from torsh_dialect.dims import Dim, symbol
from torsh_dialect.dtypes import i1, i64
from torsh_dialect.errors import ExecutionError, ShapeError
from torsh_dialect.kinds import DataDependent, TensorOp, normal_axes
from torsh_dialect.ops.string import element_listed, listed
from torsh_dialect.types import (
    MapType,
    OptionalType,
    SequenceType,
    dims_of,
    element_type,
    rank_of,
    tensor,
)

UNKNOWN = symbol("any")


def item_of(value: SSAValue) -> Attribute:
    """The type of a sequence's items.

    Raises:
        ShapeError: The value is no sequence.
    """
    if not isinstance(value.type, SequenceType):
        raise ShapeError(f"expected a sequence, got {value.type} (C1)")
    return value.type.item


def joined_items(a: Attribute, b: Attribute) -> Attribute:
    """The type of items of which some are `a` and some `b`.

    Raises:
        ShapeError: Element types differ.
    """
    if a == b:
        return a
    if not isinstance(a, TensorType):
        return a  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(b, TensorType):
        return b  # pyright: ignore[reportUnknownVariableType]
    if element_type(a) != element_type(b):  # pyright: ignore[reportUnknownArgumentType]
        raise ShapeError(f"items are {a} and {b}")
    x, y = dims_of(a), dims_of(b)  # pyright: ignore[reportUnknownArgumentType]
    element = element_type(a)  # pyright: ignore[reportUnknownArgumentType]
    if len(x) != len(y):
        return UnrankedTensorType(element)
    return tensor(element, [p if p == q else UNKNOWN for p, q in zip(x, y, strict=True)])


class Taken(DataDependent):
    """Takes a tensor out of a sequence: unknown extents become symbols."""

    symbols = opt_prop_def(ArrayAttr[StringAttr])

    def named(self, item: Attribute) -> Attribute:
        """The item's type with names for unknown extents.

        Raises:
            ShapeError: The rank is not known, or there are too few names.
        """
        if not isinstance(item, TensorType):
            raise ShapeError(f"the items' rank is not known: {item}")
        names = iter(self.symbols or ())
        dims: list[Dim] = []
        for dim in dims_of(item):  # pyright: ignore[reportUnknownArgumentType]
            if dim == UNKNOWN:
                name = next(names, None)
                if name is None:
                    raise ShapeError("`symbols` has too few names for unknown extents")
                dim = symbol(str_of(name))
            dims.append(dim)
        return tensor(element_type(item), dims)  # pyright: ignore[reportUnknownArgumentType]


@op
class SequenceConstructOp(TensorOp):
    """A sequence of the operands; with no operands, an empty one of items of type `item`.

    %r = torsh.sequence_construct %a, %b : (tensor<2xf32>, tensor<2xf32>) -> !torsh.seq<tensor<2xf32>>
    """  # noqa: E501

    name = "torsh.sequence_construct"
    items = var_operand_def()
    item = opt_prop_def(Attribute)
    y = result_def()

    def infer(self) -> Sequence[Attribute]:
        found = self.item
        for value in self.items:
            found = value.type if found is None else joined_items(found, value.type)
        if found is None:
            raise ShapeError("an empty sequence needs `item`")
        return (SequenceType(found),)

    def evaluate(self, *args: Any) -> Sequence[Any]:
        return (list(args),)


@op
class SequenceInsertOp(TensorOp):
    """The sequence with a value put in before `position` (at the end, if it is missing).

    C1: the first operand is a sequence. C2: the position lies in -n..n.

    %r = torsh.sequence_insert %s, %v : (!torsh.seq<tensor<2xf32>>, tensor<2xf32>) -> !torsh.seq<tensor<2xf32>>
    """  # noqa: E501

    name = "torsh.sequence_insert"
    sequence = operand_def()
    value = operand_def()
    position = opt_operand_def()
    y = result_def()

    def infer(self) -> Sequence[Attribute]:
        item, owner = item_of(self.sequence), self.sequence.owner
        if isinstance(owner, SequenceConstructOp) and not owner.items:
            return (SequenceType(self.value.type),)
        return (SequenceType(joined_items(item, self.value.type)),)

    def evaluate(self, *args: Any) -> Sequence[Any]:
        items, value, *position = args
        items = list(items)
        place = place_of(position[0], len(items), extra=1) if position else len(items)
        return ([*items[:place], value, *items[place:]],)


@op
class SequenceEraseOp(TensorOp):
    """The sequence without the item at `position` (the last, if it is missing).

    C1: the first operand is a sequence. C2: the position lies in -n..n-1.

    %r = torsh.sequence_erase %s : (!torsh.seq<tensor<2xf32>>) -> !torsh.seq<tensor<2xf32>>
    """

    name = "torsh.sequence_erase"
    sequence = operand_def()
    position = opt_operand_def()
    y = result_def()

    def infer(self) -> Sequence[Attribute]:
        item_of(self.sequence)
        return (self.sequence.type,)

    def evaluate(self, *args: Any) -> Sequence[Any]:
        items = list(args[0])
        del items[place_of(args[1] if len(args) > 1 else -1, len(items))]
        return (items,)


@op
class SequenceAtOp(Taken):
    """The item at `position`.

    C1: the first operand is a sequence. C2: the position lies in -n..n-1.

    %r = torsh.sequence_at %s, %p : (!torsh.seq<tensor<2xf32>>, tensor<i64>) -> tensor<2xf32>
    """

    name = "torsh.sequence_at"
    sequence = operand_def()
    position = operand_def()
    y = result_def()

    def infer(self) -> Sequence[Attribute]:
        return (self.named(item_of(self.sequence)),)

    def evaluate(self, *args: Any) -> Sequence[Any]:
        return (args[0][place_of(args[1], len(args[0]))],)


def place_of(position: Any, length: int, extra: int = 0) -> int:
    """A position that may count from the end.

    Raises:
        ExecutionError: It is out of range.
    """
    place = int(np.asarray(position).reshape(()))
    if not -length <= place < length + extra:
        raise ExecutionError(f"position {place} is out of range for a sequence of {length} (C2)")
    return place + length if place < 0 else place


@op
class SequenceLengthOp(TensorOp):
    """The number of items, as i64.

    C1: the operand is a sequence.

    %r = torsh.sequence_length %s : (!torsh.seq<tensor<2xf32>>) -> tensor<i64>
    """

    name = "torsh.sequence_length"
    sequence = operand_def()
    y = result_def()

    def infer(self) -> Sequence[Attribute]:
        item_of(self.sequence)
        return (tensor(i64, ()),)

    def evaluate(self, *args: Any) -> Sequence[Any]:
        return (np.asarray(len(args[0]), np.int64),)


@op
class SplitToSequenceOp(TensorOp):
    """x cut along `axis` into pieces of the extents `sizes`, or of one extent if it is a scalar.

    Without sizes the pieces have one element along the axis; with `squeeze` without that axis.

    C1: the axis is in range; `squeeze` goes without sizes.

    %r = torsh.split_to_sequence %x {axis = 0 : i64, squeeze = true} : (tensor<2x3xf32>) -> !torsh.seq<tensor<3xf32>>
    """  # noqa: E501

    name = "torsh.split_to_sequence"
    x = operand_def()
    sizes = opt_operand_def()
    axis = prop_def(IntegerAttr[I64])
    squeeze = opt_prop_def(BoolAttr)
    y = result_def()

    def _axis(self) -> int:
        return normal_axes([self.axis.value.data], rank_of(self.x))[0]

    def infer(self) -> Sequence[Attribute]:
        dims, axis = list(dims_of(self.x)), self._axis()
        if self.sizes is not None:
            dims[axis] = UNKNOWN
        elif bool_of(self.squeeze):
            del dims[axis]
        else:
            dims[axis] = 1
        return (SequenceType(tensor(element_type(self.x), dims)),)

    def evaluate(self, *args: Any) -> Sequence[Any]:
        x, axis = args[0], self._axis()
        if len(args) == 1:
            pieces = np.split(x, x.shape[axis], axis) if x.shape[axis] else []
            return ([np.squeeze(p, axis) if bool_of(self.squeeze) else p for p in pieces],)
        lengths = _lengths(args[1], x.shape[axis])
        return (np.split(x, np.cumsum(lengths)[:-1], axis) if lengths else [],)


def _lengths(sizes: Any, extent: int) -> list[int]:
    """The pieces' extents: those given, or one extent again and again and a smaller rest.

    Raises:
        ExecutionError: They do not make up the axis.
    """
    if sizes.ndim == 0:
        size = int(sizes)
        if size < 1:
            raise ExecutionError(f"pieces of {size} elements")
        return [size] * (extent // size) + [extent % size] * (extent % size > 0)
    lengths = [int(size) for size in sizes]
    if min(lengths, default=0) < 0 or sum(lengths) != extent:
        raise ExecutionError(f"pieces of {lengths} elements of an axis of {extent}")
    return lengths


@op
class ConcatFromSequenceOp(DataDependent):
    """The items of a sequence joined along `axis`, or stacked along a new one.

    C1: the operand is a sequence of tensors of one rank. C2: `target` gives the result's extents
    (symbols of `symbols` where they are not known).

    %r = torsh.concat_from_sequence %s {axis = 0 : i64, symbols = ["n"], target = #torsh.dims<[n]>} : (!torsh.seq<tensor<2xf32>>) -> tensor<?xf32, #torsh.dims<[n]>>
    """  # noqa: E501

    name = "torsh.concat_from_sequence"
    sequence = operand_def()
    axis = prop_def(IntegerAttr[I64])
    new_axis = opt_prop_def(BoolAttr)
    target = prop_def(Attribute)
    symbols = opt_prop_def(ArrayAttr[StringAttr])
    y = result_def()

    def infer(self) -> Sequence[Attribute]:
        item = item_of(self.sequence)
        if not isinstance(item, TensorType):
            raise ShapeError(f"the items' rank is not known: {item} (C1)")
        return (tensor(element_type(item), extents_of(self.target)),)  # pyright: ignore[reportUnknownArgumentType]

    def evaluate(self, *args: Any) -> Sequence[Any]:
        join = np.stack if bool_of(self.new_axis) else np.concatenate
        return (join(args[0], axis=self.axis.value.data),)


# -- optional values


@op
class ZipMapOp(TensorOp):
    """A sequence of maps, one for each row of x: from the keys to the row's elements.

    Keys are a literal of integers, or strings. The reference values are dicts of Python numbers.

    C1: x is a vector (one row) or a matrix.
    C2: x has as many columns as there are keys.

    %r = torsh.zip_map %x {keys = ["a", "b"]} : (tensor<4x2xf32>) -> !torsh.seq<!torsh.map<!torsh.str, f32>>
    """  # noqa: E501

    name = "torsh.zip_map"
    x = operand_def()
    keys = prop_def(Attribute)
    y = result_def()

    def infer(self) -> Sequence[Attribute]:
        if rank_of(self.x) not in (1, 2):
            raise ShapeError(f"x has rank {rank_of(self.x)}, expected 1 or 2 (C1)")
        columns, count = dims_of(self.x)[-1], len(listed(self.keys))
        if isinstance(columns, int) and columns != count:
            raise ShapeError(f"{columns} columns for {count} keys (C2)")
        return (SequenceType(MapType(element_listed(self.keys), element_type(self.x))),)

    def evaluate(self, *args: Any) -> Sequence[Any]:
        keys, x = listed(self.keys), np.atleast_2d(args[0])
        if x.shape[1] != len(keys):
            raise ExecutionError(f"{x.shape[1]} columns for {len(keys)} keys (C2)")
        return ([dict(zip(keys, row, strict=True)) for row in x.tolist()],)


@op
class OptionalOp(TensorOp):
    """The operand as an optional value; without one, nothing of type `item`.

    %r = torsh.optional %x : (tensor<2xf32>) -> !torsh.opt<tensor<2xf32>>
    """

    name = "torsh.optional"
    value = opt_operand_def()
    item = opt_prop_def(Attribute)
    y = result_def()

    def infer(self) -> Sequence[Attribute]:
        if self.value is not None:
            return (OptionalType(self.value.type),)
        if self.item is None:
            raise ShapeError("an optional value without a value needs `item`")
        return (OptionalType(self.item),)

    def evaluate(self, *args: Any) -> Sequence[Any]:
        return (args[0] if args else None,)


@op
class OptionalHasElementOp(TensorOp):
    """Whether an optional value is there.

    %r = torsh.optional_has_element %x : (!torsh.opt<tensor<2xf32>>) -> tensor<i1>
    """

    name = "torsh.optional_has_element"
    value = operand_def()
    y = result_def()

    def infer(self) -> Sequence[Attribute]:
        return (tensor(i1, ()),)

    def evaluate(self, *args: Any) -> Sequence[Any]:
        return (np.asarray(args[0] is not None),)


@op
class OptionalGetElementOp(Taken):
    """The value of an optional that is there.

    C1: the operand is optional, and its value there.

    %r = torsh.optional_get_element %x : (!torsh.opt<tensor<2xf32>>) -> tensor<2xf32>
    """

    name = "torsh.optional_get_element"
    value = operand_def()
    y = result_def()

    def infer(self) -> Sequence[Attribute]:
        if not isinstance(self.value.type, OptionalType):
            raise ShapeError(f"expected an optional value, got {self.value.type} (C1)")
        item: Attribute = self.value.type.item
        if not isinstance(item, TensorType):
            return (item,)
        return (self.named(item),)  # pyright: ignore[reportUnknownArgumentType]

    def evaluate(self, *args: Any) -> Sequence[Array]:
        if args[0] is None:
            raise ExecutionError("the optional value is not there (C1)")
        return (args[0],)
