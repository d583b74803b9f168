"""What a converter sees of an ONNX node, and the table of converters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

import numpy as np
from xdsl.ir import Attribute, Region, SSAValue

from torsh_dialect.attributes import Array, PropertyValue, dims_attribute, literal
from torsh_dialect.dims import Dim, symbol
from torsh_dialect.dtypes import dtype_of, dtype_of_numpy, is_integer, string
from torsh_dialect.errors import TorshError
from torsh_dialect.kinds import Contents, Operand, TensorOp, contents_of
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.constant import ConstantOp
from torsh_dialect.ops.shape import AssumeOp, BindOp
from torsh_dialect.ops.string import StringConstantOp
from torsh_dialect.types import dims_of, element_type, rank_of

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

    from torsh_fx.importers.onnx_scope import Scope

Values: TypeAlias = "SSAValue | Sequence[SSAValue | None]"
Converter: TypeAlias = "Callable[[Node], Values]"
ConverterT = TypeVar("ConverterT", bound=Converter)

MOST_AXES = 64
"""Most extents that an integer tensor may hold; more are no shape."""

CONVERTERS: dict[tuple[str, str], Converter] = {}
"""(domain, operator) to its converter; the domain of ai.onnx is the empty string."""

MS, ML = "com.microsoft", "ai.onnx.ml"


class NotSupported(TorshError):  # noqa: N818  (not an error of users: becomes a Finding)
    """A node uses something of its operator that has no converter."""

    def __init__(self, reason: str, remedy: str = ""):
        self.remedy = remedy
        super().__init__(reason)


def converter(*names: str, domain: str = "") -> Callable[[ConverterT], ConverterT]:
    """Enter a function in the table, for the operators `names` of `domain`."""

    def enter(function: ConverterT) -> ConverterT:
        for name in names:
            CONVERTERS[domain, name] = function
        return function

    return enter


@dataclass
class Node:
    """A node that is being converted: typed access to it, and building ops in its place.

    Attributes:
        proto: The node.
        scope: Where its inputs are looked up and its ops go.
        version: The version of the operator set of its domain that the model asks for.
        name: Its name in reports.
    """

    proto: NodeProto
    scope: Scope
    version: int
    name: str = ""

    def __post_init__(self) -> None:
        self._attributes = {a.name: a for a in self.proto.attribute}
        self._read: set[int] = set()
        self.c = Compose(self.scope.builder)

    @property
    def op_type(self) -> str:
        return self.proto.op_type

    # -- inputs and outputs

    @property
    def inputs(self) -> list[SSAValue]:
        """All inputs that are present."""
        self._read |= set(range(len(self.proto.input)))
        return [self.scope.get(name) for name in self.proto.input if name]

    def operands(self, count: int) -> list[SSAValue]:
        """All inputs; before opset 7 the second is aligned by `axis` where `broadcast` is set.

        Raises:
            NotSupported: There are not `count` of them.
        """
        values = self.inputs
        if len(values) != count:
            raise NotSupported(f"{len(values)} inputs instead of {count}", "repair the model")
        if self.version >= 7 or len(values) != 2 or not self.int("broadcast", 0):
            return values
        rank, mine = rank_of(values[0]), dims_of(values[1])
        axis = self.int("axis", rank - len(mine))
        axis = axis + rank if axis < 0 else axis
        behind = rank - axis - len(mine)
        return [values[0], self.c.reshape(values[1], (*mine, *[1] * behind))]

    def input(self, index: int) -> SSAValue:
        """A required input.

        Raises:
            NotSupported: The node does not have it.
        """
        value = self.optional(index)
        if value is None:
            raise NotSupported(f"input {index} is missing", "repair the model")
        return value

    def optional(self, index: int) -> SSAValue | None:
        """An optional input; None if it is missing."""
        self._read.add(index)
        names = self.proto.input
        return self.scope.get(names[index]) if index < len(names) and names[index] else None

    def unread(self) -> list[int]:
        """Positions of inputs that are present and that nobody asked for."""
        return [n for n, name in enumerate(self.proto.input) if name and n not in self._read]

    def wants(self, index: int) -> bool:
        """Whether output `index` is named, so that somebody may use it."""
        return index < len(self.proto.output) and self.proto.output[index] != ""

    # -- attributes

    def has(self, name: str) -> bool:
        return name in self._attributes

    def attribute(self, name: str) -> Any:
        """The value of an attribute as onnx gives it; None if it is missing."""
        from onnx import helper

        found = self._attributes.get(name)
        return None if found is None else helper.get_attribute_value(found)

    def int(self, name: str, default: int | None = None) -> int:
        return int(self.value(name, default))

    def float(self, name: str, default: float | None = None) -> float:
        return float(self.value(name, default))

    def str(self, name: str, default: str | None = None) -> str:
        value = self.value(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def ints(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        return [int(v) for v in self.value(name, default)]

    def floats(self, name: str, default: Sequence[float] | None = None) -> list[float]:
        return [float(v) for v in self.value(name, default)]

    def strs(self, name: str, default: Sequence[str] | None = None) -> list[str]:
        return [v.decode() if isinstance(v, bytes) else str(v) for v in self.value(name, default)]

    def tensor(self, name: str) -> Array:
        """A tensor attribute as an array."""
        return self.scope.importing.array_of(self.value(name))

    def graph(self, name: str) -> GraphProto:
        """A graph attribute."""
        return self.value(name)

    def value(self, name: str, default: object = None) -> Any:
        """An attribute that must be there, or have a default.

        Raises:
            NotSupported: It has neither.
        """
        value = self.attribute(name)
        if value is None:
            value = default
        if value is None:
            raise NotSupported(f"attribute {name!r} is missing", "repair the model")
        return value

    def element(self, data_type: int) -> Attribute:
        """The element type of an `onnx.TensorProto.DataType`."""
        return self.scope.importing.element(data_type)

    # -- building

    def __call__(
        self, cls: type[TensorOp], *operands: Operand, **properties: PropertyValue
    ) -> SSAValue:
        """Build an op and return its first result."""
        return self.scope.builder(cls, *operands, **properties)

    def all(
        self,
        cls: type[TensorOp],
        *operands: Operand,
        regions: Sequence[Region] = (),
        **properties: PropertyValue,
    ) -> Sequence[SSAValue]:
        """Build an op and return all its results."""
        return self.scope.builder.all(cls, *operands, regions=regions, **properties)

    def constant(self, array: Any, element: Attribute | None = None) -> SSAValue:
        """A constant; of the given element type or the array's own."""
        if element is not None:
            return self.scope.builder.constant(array, element)
        return self(ConstantOp, value=literal(np.asarray(array)))

    def zero(self, x: SSAValue) -> SSAValue:
        """A scalar 0 of x's element type; an empty string for strings."""
        if element_type(x) == string:
            return self(StringConstantOp, values=[""], target=dims_attribute([]))
        return self.c.like(0, x)

    def fresh(self, hint: str) -> str:
        """The name of a symbol that is not used yet."""
        return self.scope.importing.fresh(hint)

    def decide(self, what: str, *, default: bool) -> bool:
        """Which of two readings of the node holds, where its result's rank depends on it.

        The importer tries the other one when the rest of the model does not fit.
        """
        return self.scope.importing.decide(f"{self.name}: {what}", default=default)

    def assume(self, x: SSAValue, left: Dim, relation: str, right: Dim) -> SSAValue:
        """x, where the relation is checked when the model runs."""
        sides = {"left": dims_attribute([left]), "right": dims_attribute([right])}
        return self(AssumeOp, x, relation=relation, **sides)

    def fitted(self, x: SSAValue, dims: Sequence[Dim]) -> SSAValue:
        """X as a tensor of the extents `dims`; ones not known to be equal are checked at run time.

        Raises:
            NotSupported: Its rank is another.
        """
        own = dims_of(x)
        if len(own) != len(dims):
            raise NotSupported(f"an input has rank {len(own)} instead of {len(dims)}")
        if own == tuple(dims):
            return x
        for left, right in zip(own, dims, strict=True):
            if left != right:
                x = self.assume(x, left, "eq", right)
        return self.c.reshape(x, dims)

    # -- what is known of values

    def array(self, value: SSAValue | int | None) -> Array | None:
        """The value (or input) as an array, if it is known now; None if not, or if missing."""
        if isinstance(value, int):
            value = self.optional(value)
        return None if value is None else self.scope.importing.known(value)

    def known_ints(self, index: int) -> list[int] | None:
        """The integers of an input, flattened; None if they are not known now."""
        array = self.array(index)
        return None if array is None else [int(v) for v in np.asarray(array).reshape(-1)]

    def required_ints(self, index: int, what: str) -> list[int]:
        """The integers of an input that must be known.

        Raises:
            NotSupported: They depend on data.
        """
        found = self.known_ints(index)
        if found is None:
            raise NotSupported(
                f"{what} (input {index}) depends on data", "make it a constant of the model"
            )
        return found

    @overload
    def extents(self, value: SSAValue) -> list[Dim]: ...
    @overload
    def extents(self, value: None) -> None: ...
    def extents(self, value: SSAValue | None) -> list[Dim] | None:
        """What an integer tensor holds, as extents: known, or fresh symbols bound to it."""
        if value is None:
            return None
        contents = self.contents(value)
        if contents is not None:
            return list(contents)
        count = 1
        for dim in dims_of(value):
            if not isinstance(dim, int):
                raise NotSupported(f"the number of extents is {dim}, not a number")
            count *= dim
        if count == 0:
            return []
        if count > MOST_AXES:
            raise NotSupported(f"{count} extents, more than {MOST_AXES}", "repair the model")
        names = [self.fresh("u") for _ in range(count)]
        self.scope.bound(self(BindOp, value, names=names))
        return [symbol(name) for name in names]

    def contents(self, value: SSAValue) -> Contents | None:
        """The integers that a value is known to hold, symbolic ones included."""
        found = contents_of(value)
        if found is not None:
            return found
        array = self.array(value) if is_integer(element_type(value)) else None
        return None if array is None else tuple(int(v) for v in np.asarray(array).reshape(-1))

    def scalar(self, value: SSAValue) -> SSAValue:
        """A value of one element as a scalar."""
        return self.c.reshape(value, ())

    def rank(self, index: int = 0) -> int:
        return rank_of(self.input(index))

    def dims(self, index: int = 0) -> tuple[Dim, ...]:
        return dims_of(self.input(index))

    def kind(self, index: int = 0) -> str:
        """The dtype kind of an input: float, int, uint, bool, complex or string."""
        return dtype_of(element_type(self.input(index))).kind

    def axis(self, default: int | None = None, index: int = 0, name: str = "axis") -> int:
        """The attribute `axis` as a number in 0..rank-1.

        Raises:
            NotSupported: It is out of range.
        """
        axis, rank = self.int(name, default), self.rank(index)
        if not -rank <= axis < max(rank, 1):
            raise NotSupported(f"axis {axis} is out of range for rank {rank}", "repair the model")
        return axis % rank if rank else 0


def array_dtype(array: Array) -> Attribute:
    """The element type of an array."""
    return dtype_of_numpy(array.dtype).element
