"""The reference interpreter: runs a function by the ops' numpy `evaluate`.

Slow and obvious; it is what passes and lowering are compared with. A symbol gets its value
from the first argument or data-dependent result whose type has it; regions have their own
scope. Before an op is evaluated, symbolic extents in its properties are replaced by numbers,
so `evaluate` sees only integers in `#torsh.dims`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, TensorType
from xdsl.dialects.func import CallOp, FuncOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.traits import IsTerminator

from torsh_dialect.attributes import Array, dims_attribute, str_of, strs_of
from torsh_dialect.dims import Dim, Expr, evaluate_dim, symbols_of
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.errors import InputError, TorshError
from torsh_dialect.kinds import TensorOp
from torsh_dialect.ops.constant import WeightOp
from torsh_dialect.ops.shape import BindOp
from torsh_dialect.symbols import bind
from torsh_dialect.types import DimsAttr, dims_of, element_type
from torsh_dialect.weights import WeightStore


class RunRegion(Protocol):
    """Evaluates a region of a control op with the given block arguments."""

    def __call__(self, region: Region, /, *args: Array) -> Sequence[Array]: ...

    def extent(self, dim: Dim) -> int:
        """The number that an extent is outside the region; 0 where it is not known."""
        ...


@runtime_checkable
class Runs(Protocol):
    """A control op: evaluates itself by running its regions."""

    def run(self, region: RunRegion, *args: Array) -> Sequence[Array]: ...


@dataclass(frozen=True)
class Scope:
    """What an op sees: the values before it, and the sizes of symbols."""

    values: Mapping[SSAValue, Array]
    symbols: Mapping[str, int]


@dataclass
class Evaluator:
    """Evaluates functions of one module.

    Attributes:
        module: Where called functions are looked up.
        weights: Data of `torsh.weight`.
    """

    module: ModuleOp
    weights: WeightStore = field(default_factory=WeightStore)

    def function(self, name: str) -> FuncOp:
        """The function called `name`.

        Raises:
            InputError: The module has none.
        """
        for op in self.module.body.ops:
            if isinstance(op, FuncOp) and op.sym_name.data == name:
                return op
        raise InputError(f"the module has no function @{name}")

    def call(self, name: str, *args: Array) -> list[Array]:
        """The results of `@name` for `args`.

        Raises:
            InputError: Arguments do not fit the signature.
        """
        function = self.function(name)
        block = function.body.block
        if len(args) != len(block.args):
            raise InputError(f"@{name} takes {len(block.args)} inputs, got {len(args)}")
        for number, (argument, array) in enumerate(zip(block.args, args, strict=True)):
            _check_dtype(argument.type, array, f"input {number} of @{name}")
        return self.run_block(block, args, Scope({}, {}), f"an input of @{name}")

    def run_block(
        self, block: Block, args: Sequence[Array], outer: Scope, what: str
    ) -> list[Array]:
        """The values that a block ends with; `what` names its arguments in messages."""
        values, known = dict(outer.values), dict(outer.symbols)
        scope = Scope(values, known)
        for argument, array in zip(block.args, args, strict=True):
            _bind(argument.type, array, known, what)
            values[argument] = array
        for op in block.ops:
            operands = [values[operand] for operand in op.operands]
            if op.has_trait(IsTerminator):
                return operands
            results = self._op(op, operands, scope)
            for result, array in zip(op.results, results, strict=True):
                _bind(result.type, array, known, f"the result of {op.name}")
                values[result] = array
            if isinstance(op, BindOp):
                known.update(op.bound_values(operands[0]))
        raise TorshError("a block has no terminator")

    def _op(self, op: Operation, operands: Sequence[Array], scope: Scope) -> Sequence[Array]:
        if isinstance(op, WeightOp):
            return (self.weights[op.id.data],)
        if isinstance(op, CallOp):
            return self.call(op.callee.string_value(), *operands)
        if not isinstance(op, TensorOp):
            raise TorshError(f"{op.name} has no reference value")
        if isinstance(op, Runs):
            return op.run(_Regions(self, scope, op.name), *operands)
        return evaluate_op(op, operands, scope.symbols)


@dataclass
class _Regions:
    """`RunRegion` for one control op: its regions see what is around it."""

    evaluator: Evaluator
    scope: Scope
    name: str

    def __call__(self, region: Region, /, *args: Array) -> Sequence[Array]:
        what = f"an argument in {self.name}"
        return self.evaluator.run_block(region.block, args, self.scope, what)

    def extent(self, dim: Dim) -> int:
        symbols = self.scope.symbols
        return evaluate_dim(dim, symbols) if symbols_of(dim) <= symbols.keys() else 0


def evaluate_op(
    op: TensorOp, operands: Sequence[Array], symbols: Mapping[str, int]
) -> Sequence[Array]:
    """The results of one op without regions; `symbols` gives its symbolic extents numbers."""
    fresh = op.properties.get("symbols")
    named = set(strs_of(fresh)) if isinstance(fresh, ArrayAttr) else set[str]()  # pyright: ignore[reportUnknownArgumentType]
    properties = {
        name: value if _mentions(value, named) else _concrete(value, symbols)
        for name, value in op.properties.items()
    }
    if all(properties[name] is value for name, value in op.properties.items()):
        return [_plain(value) for value in op.evaluate(*operands)]
    twin = type(op).create(
        operands=op.operands, properties=properties, result_types=op.result_types
    )
    try:
        return [_plain(value) for value in twin.evaluate(*operands)]
    finally:
        twin.drop_all_references()


def _plain(value: Any) -> Any:
    """A result as an array; sequences stay lists, and nothing stays None."""
    kept = value is None or isinstance(value, list)
    return value if kept else np.asarray(value)  # pyright: ignore[reportUnknownVariableType]


def _mentions(value: Attribute, names: set[str]) -> bool:
    """Whether an extent is one that the op itself finds out."""
    return isinstance(value, DimsAttr) and any(symbols_of(d) & names for d in value.data)


def _concrete(value: Attribute, symbols: Mapping[str, int]) -> Attribute:
    if isinstance(value, DimsAttr) and any(isinstance(d, Expr) for d in value.data):
        return dims_attribute([evaluate_dim(d, symbols) for d in value.data])
    return value


def _bind(type: Attribute, array: Array, symbols: dict[str, int], what: str) -> None:
    if isinstance(type, TensorType):
        bind(dims_of(type), array.shape, symbols, what)  # pyright: ignore[reportUnknownArgumentType]


def _check_dtype(type: Attribute, array: Array, what: str) -> None:
    if not isinstance(type, TensorType):
        return
    wanted = dtype_of(element_type(type))  # pyright: ignore[reportUnknownArgumentType]
    if wanted.kind != "string" and np.dtype(array.dtype) != wanted.numpy:
        raise InputError(f"{what} has dtype {array.dtype}, but {wanted.name} is expected")


def evaluate(
    module: ModuleOp, args: Sequence[Array], weights: WeightStore | None = None, name: str = "main"
) -> list[Array]:
    """The results of `@name` of `module` for `args`, by the ops' numpy references."""
    return Evaluator(module, weights or WeightStore()).call(name, *args)


def names_of(function: FuncOp, attribute: str) -> tuple[str, ...]:
    """The names in a function's `arg_names` or `result_names`; empty where there are none."""
    value = function.attributes.get(attribute)
    return tuple(str_of(v) for v in value) if value is not None else ()  # pyright: ignore
