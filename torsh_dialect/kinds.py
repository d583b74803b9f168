"""The few kinds of op. Lowering, fusion and vectorisation dispatch on the kind.

A kind says what a class must declare so that everything else follows: its element-wise body,
its accumulator, its index map, its expansion. `torsh_dialect` knows no back end.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import ClassVar, Protocol, TypeAlias

from xdsl.dialects.builtin import (
    I64,
    BoolAttr,
    DenseArrayBase,
    IntegerAttr,
    LocationAttr,
    StringAttr,
)
from xdsl.ir import Attribute, Operation, OpResult, Region, SSAValue, SSAValues
from xdsl.irdl import (
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import (
    EffectInstance,
    MemoryEffect,
    MemoryEffectKind,
    Pure,
    RecursiveMemoryEffect,
)
from xdsl.utils.exceptions import VerifyException

from torsh_dialect import dtypes
from torsh_dialect.agreement import check_result_type
from torsh_dialect.attributes import (
    Array,
    PropertyValue,
    attribute_of,
    bool_of,
    ints_of,
    segments,
    strs_of,
)
from torsh_dialect.declare import Spelled
from torsh_dialect.dims import Dim, broadcast_shapes
from torsh_dialect.errors import ShapeError, TorshError
from torsh_dialect.index_maps import C as C
from torsh_dialect.index_maps import Geometry as Geometry
from torsh_dialect.index_maps import I as I
from torsh_dialect.index_maps import Indices as Indices
from torsh_dialect.index_maps import Pick as Pick
from torsh_dialect.index_maps import Read as Read
from torsh_dialect.operands import Operand as Operand
from torsh_dialect.operands import flattened, has_segments
from torsh_dialect.placement import placed
from torsh_dialect.scalar import Scalar, V
from torsh_dialect.syntax import UniformSyntax
from torsh_dialect.types import (
    AnyTensor,
    dims_of,
    element_type,
    is_stored,
    is_typed,
    rank_of,
    tensor,
)

Contents: TypeAlias = "tuple[Dim, ...]"


class TensorOp(UniformSyntax, abc.ABC):
    """What every torsh op answers: its result types, and its value by numpy."""

    SPELLED: ClassVar[Spelled] = Spelled()
    traits = traits_def(Pure())

    @abc.abstractmethod
    def infer(self) -> Sequence[Attribute]:
        """The result types that operands and properties imply: the only such rule.

        Raises:
            ShapeError: Operands do not fit.
        """

    @abc.abstractmethod
    def evaluate(self, *args: Array) -> Sequence[Array]:
        """The reference: plain numpy, slow, obvious, written apart from the lowering."""

    def same_device(self) -> Sequence[SSAValue]:
        """The values that must be on one device, which the results are on, too."""
        return self._operands

    def implied_types(self) -> Sequence[Attribute]:
        """What `infer` gives, on the operands' device.

        Raises:
            ShapeError: Operands do not fit.
            DeviceError: They are on different devices.
        """
        inferred = self.infer()
        for value in self._operands:
            if is_stored(value.type):
                return placed(self.same_device(), inferred, self.location)
        return inferred

    def contents(self) -> Contents | None:
        """What a small integer result is known to hold, flattened; None where unknown."""
        return None

    @classmethod
    def make(
        cls,
        *operands: Operand,
        location: LocationAttr | None = None,
        regions: Sequence[Region] = (),
        **properties: PropertyValue,
    ):
        """Build the op with inferred result types.

        Args:
            operands: In the order of declaration; a sequence for a variadic operand, None for
                an optional one that is missing; those at the end may be left out.
            location: Where in the user's model the op comes from.
            regions: Regions of control ops.
            properties: Plain Python values (`axis=1`, `axes=[0, 2]`) or attributes.

        Raises:
            ShapeError: The operands do not fit the op.
        """
        flat, sizes = flattened(operands)
        attributes = {k: attribute_of(v) for k, v in properties.items() if v is not None}
        if has_segments(cls):
            missing = len(cls.get_irdl_definition().operands) - len(sizes)
            attributes["operandSegmentSizes"] = segments((*sizes, *(0,) * missing))
        built = cls.create(operands=flat, properties=attributes, location=location, regions=regions)
        try:
            types = built.implied_types()
        except TorshError as error:
            built.drop_all_references()
            raise type(error)(f"{cls.name}: {error.message}", location=error.location) from None
        built.results = SSAValues(OpResult(t, built, n) for n, t in enumerate(types))
        return built

    def verify_(self) -> None:
        if not all(map(is_typed, (*self.operands, *self.results))):
            return  # `infer-types` checks it
        try:
            inferred = list(self.implied_types())
        except TorshError as error:
            raise VerifyException(f"{self.name}: {error.message}") from error
        if len(inferred) != len(self.results):
            raise VerifyException(
                f"{self.name}: {len(self.results)} results, but {len(inferred)} are implied"
            )
        for result, type in zip(self.results, inferred, strict=True):
            check_result_type(result.type, type)


def contents_of(value: SSAValue) -> Contents | None:
    """What an integer tensor is known to hold, flattened in row-major order; None if unknown."""
    if not isinstance(value, OpResult) or not isinstance(value.op, TensorOp):
        return None
    return value.op.contents() if value.index == 0 else None


# -- element-wise


class Elementwise(TensorOp):
    """Computes each result element from one element of each operand, under broadcasting."""

    y = result_def()

    def result_element(self, *elements: Attribute) -> Attribute:
        """The result's element type, from the operands'."""
        return elements[0]

    @abc.abstractmethod
    def body(self, s: Scalar[V], *x: V) -> V:
        """One element of the result, in the scalar language."""

    def infer(self) -> Sequence[AnyTensor]:
        shape = broadcast_shapes(*map(dims_of, self._operands))
        return (tensor(self.result_element(*map(element_type, self._operands)), shape),)


class Unary(Elementwise):
    """One tensor in, one of the same shape out."""

    x = operand_def()


class Binary(Elementwise):
    """Two tensors of one element type in, one of the broadcast shape out."""

    a = operand_def()
    b = operand_def()

    def result_element(self, *elements: Attribute) -> Attribute:
        if elements[0] != elements[1]:
            raise ShapeError(
                f"operands have element types {elements[0]} and {elements[1]}; insert torsh.cast"
            )
        return elements[0]


class Compare(Binary):
    """Two tensors of one element type in, a tensor of bools out."""

    def result_element(self, *elements: Attribute) -> Attribute:
        super().result_element(*elements)
        return dtypes.i1


# -- reductions and scans


class Reduce(TensorOp):
    """Folds `axes` away with an associative, commutative `combine` of accumulators.

    An accumulator is a tuple of scalars. f16 and bf16 elements arrive as f32.
    """

    x = operand_def()
    axes = prop_def(DenseArrayBase[I64])
    keepdims = opt_prop_def(BoolAttr)
    y = result_def()

    def result_element(self, element: Attribute) -> Attribute:
        """The result's element type, from the operand's."""
        return element

    @abc.abstractmethod
    def identity(self, s: Scalar[V], element: Attribute) -> tuple[V, ...]:
        """The accumulator of no elements."""

    @abc.abstractmethod
    def lift(self, s: Scalar[V], x: V, index: V) -> tuple[V, ...]:
        """The accumulator of one element; `index` is its flat position (i64) in the axes."""

    @abc.abstractmethod
    def combine(self, s: Scalar[V], a: tuple[V, ...], b: tuple[V, ...]) -> tuple[V, ...]:
        """The accumulator of two runs of elements, `a` before `b`."""

    def finish(self, s: Scalar[V], a: tuple[V, ...], count: V) -> V:
        """The result from an accumulator of `count` (i64) elements."""
        return a[0]

    def axis_list(self) -> tuple[int, ...]:
        """The reduced axes, normalised and sorted."""
        return normal_axes(ints_of(self.axes), rank_of(self.x))

    def infer(self) -> Sequence[AnyTensor]:
        dims = reduced_dims(dims_of(self.x), self.axis_list(), keep=bool_of(self.keepdims))
        return (tensor(self.result_element(element_type(self.x)), dims),)


def normal_axes(axes: Iterable[int], rank: int) -> tuple[int, ...]:
    """Axes as sorted numbers in 0..rank-1.

    Raises:
        ShapeError: An axis is out of range or given twice.
    """
    axes = tuple(axes)
    if bad := [a for a in axes if not -rank <= a < max(rank, 1)]:
        raise ShapeError(f"axes {bad} are out of range for a tensor of rank {rank}")
    normal = sorted(a % rank if rank else 0 for a in axes)
    if len(set(normal)) != len(normal):
        raise ShapeError(f"an axis is given twice in {list(axes)}")
    return tuple(normal) if rank else ()


def reduced_dims(dims: Sequence[Dim], axes: Sequence[int], *, keep: bool) -> tuple[Dim, ...]:
    """The extents that are left when `axes` are folded away (or kept as 1)."""
    if keep:
        return tuple(1 if n in axes else d for n, d in enumerate(dims))
    return tuple(d for n, d in enumerate(dims) if n not in axes)


class Scan(TensorOp):
    """Running fold along `axis`: element i is the fold of elements 0..i (or 0..i-1)."""

    x = operand_def()
    axis = prop_def(IntegerAttr[I64])
    exclusive = opt_prop_def(BoolAttr)
    reverse = opt_prop_def(BoolAttr)
    y = result_def()

    @abc.abstractmethod
    def identity(self, s: Scalar[V], element: Attribute) -> tuple[V, ...]:
        """The accumulator of no elements."""

    @abc.abstractmethod
    def combine(self, s: Scalar[V], a: tuple[V, ...], b: tuple[V, ...]) -> tuple[V, ...]:
        """The accumulator of two runs of elements."""

    def infer(self) -> Sequence[AnyTensor]:
        normal_axes([self.axis.value.data], rank_of(self.x))
        return (tensor(element_type(self.x), dims_of(self.x)),)


# -- movement


class Movement(TensorOp):
    """Moves elements without computing: says where each result element comes from."""

    y = result_def()

    @abc.abstractmethod
    def pick(self, ix: Indices[I, C], index: Sequence[I]) -> Sequence[Pick[I, C]]:
        """The sources of the result element at `index`; the first whose condition holds wins.

        Where none holds the element is `fill()`.
        """

    def fill(self) -> float | int | bool:
        """The value of elements that no source gives."""
        return 0

    def is_view(self) -> bool:
        """Whether the result has the operand's elements in the same row-major order."""
        return False


# -- the others


class Composite(TensorOp):
    """Means what other torsh ops mean together; stays whole until `expand-composites`."""

    @abc.abstractmethod
    def expand(self, b: Builder) -> Sequence[SSAValue]:
        """Build the ops that mean the same; returns the values of the results."""


class Builder(Protocol):
    """Where `expand` puts its ops."""

    def __call__(
        self, cls: type[TensorOp], *operands: Operand, **properties: PropertyValue
    ) -> SSAValue:
        """Build an op at the place of expansion and return its first result."""
        ...

    def all(
        self,
        cls: type[TensorOp],
        *operands: Operand,
        regions: Sequence[Region] = (),
        **properties: PropertyValue,
    ) -> Sequence[SSAValue]:
        """Build an op at the place of expansion and return all its results."""
        ...

    def constant(self, value: float | Array, element: Attribute) -> SSAValue:
        """A constant of the given element type."""
        ...


Labels: TypeAlias = "tuple[tuple[str, ...], ...]"


class Contract(TensorOp):
    """Sums products over shared axes: matrix products in all forms."""

    @abc.abstractmethod
    def labels(self) -> Labels:
        """The name of each axis of each operand, then of the result.

        The result is the sum, over labels that it lacks, of the product of the operands. An
        axis of extent 1 stretches to its label's extent. The operand `bias`, if the op has
        one, is no factor: it is added to the sum.
        """


class Window(TensorOp):
    """Slides a window over spatial axes: convolutions and pooling."""

    @abc.abstractmethod
    def geometry(self) -> Geometry:
        """Where the windows lie."""


class Gather(TensorOp):
    """Reads elements at positions that another operand gives."""

    y = result_def()

    @abc.abstractmethod
    def pick(self, ix: Indices[I, C], index: Sequence[I], read: Read[I]) -> Sequence[Pick[I, C]]:
        """The sources of the result element at `index`; the first whose condition holds wins."""


class Scatter(TensorOp):
    """Starts from the first operand and writes or folds in elements of the last, `updates`.

    Updates are taken in row-major order, so the last of several to one place wins or is folded
    last.
    """

    y = result_def()

    @abc.abstractmethod
    def place(self, ix: Indices[I, C], index: Sequence[I], read: Read[I]) -> Pick[I, C]:
        """Where the update at `index` goes: `index` of the result, if `where` holds.

        The `operand` of the answer has no meaning.
        """

    @abc.abstractmethod
    def fold(self, s: Scalar[V], old: V, update: V) -> V:
        """What stands in the result afterwards."""


class Sort(TensorOp):
    """Orders elements along an axis."""


class DefinesSymbols(MemoryEffect):
    """Names symbols in one of its properties: must stay, even where no result is used.

    Other ops use the symbols through their types, which no use list shows.
    """

    PROPERTIES = ("symbols", "names", "count", "length")

    @classmethod
    def get_effects(cls, op: Operation) -> AbstractSet[EffectInstance]:
        """Counts as a write, unless the op names no symbol."""
        named = any(name in op.properties for name in cls.PROPERTIES)
        return frozenset({EffectInstance(MemoryEffectKind.WRITE)}) if named else frozenset()

    @classmethod
    def named(cls, op: Operation) -> Sequence[str]:
        """The symbols that an op gives a value when it runs."""
        if not op.has_trait(DefinesSymbols):
            return ()
        values = [op.properties[name] for name in cls.PROPERTIES if name in op.properties]
        return [
            name
            for value in values
            for name in ([value.data] if isinstance(value, StringAttr) else strs_of(value))
        ]


class Control(TensorOp):
    """Holds regions with typed yields; `infer` itself says where the results are."""

    traits = traits_def(RecursiveMemoryEffect(), DefinesSymbols())

    def same_device(self) -> Sequence[SSAValue]:
        return ()


class DataDependent(TensorOp):
    """Has result extents that depend on the data: fresh symbols."""

    traits = traits_def(DefinesSymbols())


class Extern(TensorOp):
    """Calls a routine of `lowering` with declared effects, bounds and scratch."""


class Random(TensorOp):
    """Draws random numbers with a framework's distribution and stream."""


def rebuilt(op: TensorOp, operands: Sequence[SSAValue], **changed: Attribute) -> TensorOp:
    """A copy of `op` on other operands, with some properties changed and its types inferred.

    Raises:
        ShapeError: The operands do not fit the op.
    """
    copy = type(op).create(
        operands=operands, properties={**op.properties, **changed}, location=op.location
    )
    copy.results = SSAValues(OpResult(t, copy, n) for n, t in enumerate(copy.implied_types()))
    return copy
