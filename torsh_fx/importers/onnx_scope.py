"""The state of an ONNX import: names, known values, weights, symbols, and what became of nodes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from xdsl.dialects.builtin import (
    ArrayAttr,
    LocationAttr,
    NameLoc,
    NoneAttr,
    StringAttr,
    UnrankedTensorType,
)
from xdsl.ir import Attribute, Block, OpResult, SSAValue

from torsh_dialect.attributes import Array, dims_attribute, literal
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.context import Context
from torsh_dialect.dims import Bounds, Expr
from torsh_dialect.dtypes import dtype_of, dtype_of_numpy
from torsh_dialect.errors import Finding, ImportModelError, InvalidArgumentError
from torsh_dialect.evaluate import evaluate_op
from torsh_dialect.kinds import DefinesSymbols, Random, TensorOp, contents_of
from torsh_dialect.ops.constant import ConstantOp, WeightOp
from torsh_dialect.ops.sequence import UNKNOWN
from torsh_dialect.ops.string import StringConstantOp
from torsh_dialect.types import DimsAttr, OptionalType, SequenceType, dims_of, element_type, tensor
from torsh_fx.importers.model import Report
from torsh_fx.importers.onnx_load import dense
from torsh_fx.importers.random import Stream, stream_of

if TYPE_CHECKING:
    from onnx import FunctionProto, SparseTensorProto, TensorProto, TypeProto

    from torsh_fx.importers.onnx_ops.node import Converter

KNOWN_LIMIT = 65536
"""Most elements of an intermediate value that is computed during import."""

MOST_INLINED = 200_000
"""Most nodes of functions that are put where these are called: functions that call each other twice
double with each, so that a small file can stand for a model without end."""

CONSTANT_LIMIT = 1024
"""Most elements of an integer initializer that becomes a constant instead of a weight."""


class Skipped(Exception):  # noqa: N818  (control flow, never leaves the importer)
    """A node's input comes from a node that was refused."""


def identifier(text: str, prefix: str = "d") -> str:
    """Text as an identifier: other characters become underscores."""
    name = re.sub(r"\W", "_", text, flags=re.ASCII)
    return name if name.isidentifier() else f"{prefix}_{name}"


def named_location(name: str, op_type: str) -> LocationAttr:
    """The location of what a node becomes."""
    return NameLoc(StringAttr(f"{name} ({op_type})"), NoneAttr())


@dataclass
class Importing:
    """One import.

    Attributes:
        ctx: Holds the weight store.
        opsets: Domain to version.
        functions: The model's local functions by domain, name and overload.
        load: Reads a TensorProto, external data included.
        block: The entry block of `@main`.
        converters: Domain and operator to the function that converts it.
        custom: Those that the caller gave, of which nobody knows the form.
        bounds: Bounds of symbols.
        calling: Functions that are being inlined.
        inlined: Nodes of functions that were put where these are called.
        report: What became of each node.
        decisions: Readings of nodes that an earlier try found not to fit, and their opposites.
        taken: Readings of this try, in order.
        stream: What nodes without a seed draw random numbers from.
        widened: Values whose rank only some ways through the model give, and what is said where
            it matters (`onnx_ranks`).
    """

    ctx: Context
    opsets: dict[str, int]
    functions: Mapping[tuple[str, str, str], FunctionProto]
    load: Callable[[TensorProto], Array]
    block: Block
    converters: Mapping[tuple[str, str], Converter] = field(
        default_factory=dict[tuple[str, str], "Converter"]
    )
    custom: frozenset[tuple[str, str]] = frozenset()
    bounds: dict[str, Bounds] = field(default_factory=dict[str, Bounds])
    calling: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    inlined: int = 0
    report: Report = field(default_factory=Report)
    decisions: dict[str, bool] = field(default_factory=dict[str, bool])
    taken: dict[str, bool] = field(default_factory=dict[str, bool])
    stream: Stream = field(init=False)
    widened: list[tuple[SSAValue, Finding]] = field(default_factory=list[tuple[SSAValue, Finding]])
    _known: dict[SSAValue, Array | None] = field(default_factory=dict[SSAValue, "Array | None"])
    _weights: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])
    _counts: dict[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        self.stream = stream_of("philox", self.block)

    def fresh(self, hint: str) -> str:
        """The name of a symbol that is not used yet."""
        while True:
            number = self._counts.get(hint, 0)
            self._counts[hint] = number + 1
            name = f"{hint}{number}"
            if name not in self.bounds:
                self.bounds[name] = (0, None)
                return name

    def decide(self, key: str, *, default: bool) -> bool:
        """Which of two readings to try, and take note of it."""
        self.taken[key] = self.decisions.get(key, default)
        return self.taken[key]

    def element(self, data_type: int) -> Attribute:
        """The element type of an `onnx.TensorProto.DataType`.

        Raises:
            ImportModelError: The number stands for none.
        """
        from onnx import TensorProto, helper

        if data_type == TensorProto.STRING:
            return dtype_of_numpy(np.dtype(object)).element
        try:
            return dtype_of_numpy(helper.tensor_dtype_to_np_dtype(data_type)).element
        except (KeyError, InvalidArgumentError) as error:
            raise ImportModelError(f"data type {data_type} is not supported") from error

    def array_of(self, proto: TensorProto) -> Array:
        """A tensor of the model as an array."""
        array = self.load(proto)
        return array.astype(object) if array.dtype.kind in "US" else array

    def type_of(self, proto: TypeProto, what: str) -> Attribute:
        """A type inside a sequence or optional value: unknown extents are `any`.

        Raises:
            ImportModelError: It is a map, sparse, or of unknown kind.
        """
        match proto.WhichOneof("value"):
            case "tensor_type":
                element = self.element(proto.tensor_type.elem_type)
                if not proto.tensor_type.HasField("shape"):
                    return UnrankedTensorType(element)
                known = [d.dim_value if d.HasField("dim_value") else UNKNOWN
                         for d in proto.tensor_type.shape.dim]  # fmt: skip
                return tensor(element, known)
            case "sequence_type":
                return SequenceType(self.type_of(proto.sequence_type.elem_type, what))
            case "optional_type":
                return OptionalType(self.type_of(proto.optional_type.elem_type, what))
            case other:
                raise ImportModelError(f"{what} has the type {other}, which is not supported")

    def type_proto(self, type: Attribute) -> TypeProto:
        """A type as onnx writes it."""
        from onnx import helper

        if isinstance(type, SequenceType):
            return helper.make_sequence_type_proto(self.type_proto(type.item))
        if isinstance(type, OptionalType):
            return helper.make_optional_type_proto(self.type_proto(type.item))
        if isinstance(type, UnrankedTensorType):
            dtype = dtype_of(type.element_type).numpy  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
            return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(dtype), None)
        dtype = dtype_of(element_type(type)).numpy
        dims = [d if isinstance(d, int) else str(d) for d in dims_of(type)]
        return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(dtype), dims)

    # -- initializers

    def initializer(self, proto: TensorProto) -> SSAValue:
        """A constant, by its role, or a weight, in the entry block."""
        return self.stored(proto.name, self.array_of(proto))

    def sparse(self, proto: SparseTensorProto) -> SSAValue:
        """As `initializer`, of a sparse tensor: it is stored densely."""
        return self.stored(proto.values.name, dense(proto, self.array_of))

    def stored(self, name: str, array: Array) -> SSAValue:
        """A constant or a weight that holds an array."""
        first = BlockBuilder(self.block, before=self.block.first_op)
        if array.dtype.kind == "O":
            return first(
                StringConstantOp,
                values=ArrayAttr([StringAttr(str(v)) for v in array.reshape(-1)]),
                target=dims_attribute(array.shape),
            )
        small = array.size <= 1 or (array.dtype.kind in "iub" and array.dtype.itemsize >= 4)
        if (small and array.size <= CONSTANT_LIMIT) or array.dtype.kind == "b":
            return first(ConstantOp, value=literal(array))
        return first(
            WeightOp,
            id=self.ctx.weights.add(name, array),
            type=tensor(dtype_of_numpy(array.dtype).element, array.shape),
        )

    # -- values that are known during import

    def known(self, value: SSAValue) -> Array | None:
        """The array that a value is, if it depends on no input; None if it does."""
        if value not in self._known:
            self._known[value] = self._compute(value)
        return self._known[value]

    def _compute(self, value: SSAValue) -> Array | None:
        if not isinstance(value, OpResult) or not isinstance(value.op, TensorOp):
            return None
        op = value.op
        if isinstance(op, WeightOp):
            return self.ctx.weights[op.id.data]
        contents = contents_of(value)
        if contents is not None and all(isinstance(d, int) for d in contents):
            dims = [d for d in dims_of(value) if isinstance(d, int)]
            return np.asarray(contents).reshape(dims).astype(dtype_of(element_type(value)).numpy)
        if op.regions or isinstance(op, Random) or _symbolic(op) or not self._small(op):
            return None
        operands = [self.known(operand) for operand in op.operands]
        arrays = [array for array in operands if array is not None]
        if len(arrays) < len(operands):
            return None
        results = evaluate_op(op, arrays, {})
        for result, array in zip(op.results, results, strict=True):
            self._known[result] = array
        return results[value.index]

    def _small(self, op: TensorOp) -> bool:
        count = 0
        for value in op.results:
            if not hasattr(value.type, "element_type"):
                return False
            size = 1
            for dim in dims_of(value):
                if not isinstance(dim, int):
                    return False
                size *= dim
            count += size
        return count <= KNOWN_LIMIT


def _symbolic(op: TensorOp) -> bool:
    """Whether an op names symbols or has a property that needs their values."""
    return any(
        name in DefinesSymbols.PROPERTIES
        or (isinstance(value, DimsAttr) and any(isinstance(d, Expr) for d in value.data))
        for name, value in op.properties.items()
    )


@dataclass
class Scope:
    """Names of one graph, function body or region.

    Attributes:
        importing: The whole import.
        builder: Where ops go.
        parent: The graph around a subgraph; names are looked up there too.
        prefix: Put before node names in reports.
        values: What names stand for; None for what a refused node would have made.
    """

    importing: Importing
    builder: BlockBuilder
    parent: Scope | None = None
    prefix: str = ""
    values: dict[str, SSAValue | None] = field(default_factory=dict[str, "SSAValue | None"])

    def get(self, name: str) -> SSAValue:
        """The value called `name`.

        Raises:
            ImportModelError: There is none.
            Skipped: Its producer was refused.
        """
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values:
                value = scope.values[name]
                if value is None:
                    raise Skipped(name)
                return value
            scope = scope.parent
        raise ImportModelError(
            f"the value {name!r} is used before anything defines it; repair the model"
        )

    def find(self, name: str) -> SSAValue | None:
        """The value called `name`; None where there is none, or its producer was refused."""
        try:
            return self.get(name)
        except (Skipped, ImportModelError):
            return None

    def set(self, name: str, value: SSAValue | None) -> None:
        """Give a value a name (and take it as a hint for the text form).

        Raises:
            ImportModelError: The graph defines it already.
        """
        if name in self.values:
            raise ImportModelError(f"the value {name!r} is defined twice; repair the model")
        self.values[name] = value
        if value is not None and value.name_hint is None:
            value.name_hint = hint_of(name)

    def bound(self, value: SSAValue) -> None:
        """Keep an op that binds symbols, though nothing uses its result."""

    def inner(self, builder: BlockBuilder, prefix: str) -> Scope:
        """The scope of a subgraph."""
        return Scope(self.importing, builder, self, prefix)


def hint_of(name: str) -> str | None:
    """A name as xDSL accepts it for a value."""
    text = re.sub(r"[^\w$.-]", "_", name, flags=re.ASCII)
    return f"v{text}" if text[:1].isdigit() or text[:1] in "-.$" else text or None
