"""Builds `kern` functions: the scalar language and index arithmetic as ops.

An op is put into the outermost open block in which its operands are defined, and equal pure ops
are made once, so loop-invariant code and common subexpressions never enter the inner loops.
Index values are Python integers or SSA values; integers fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, TypeAlias

from xdsl.dialects.builtin import (
    FloatAttr,
    IndexType,
    IntegerAttr,
    StringAttr,
    SymbolRefAttr,
)
from xdsl.ir import Attribute, Block, Operation, OpResult, Region, SSAValue
from xdsl.traits import Pure

from lowering.kern import dialect as kern
from lowering.kern.dialect import INDEX
from torsh_dialect import dtypes
from torsh_dialect.attributes import integer, text
from torsh_dialect.dims import Atom, Dim, Expr
from torsh_dialect.dtypes import dtype_of

Index: TypeAlias = "int | SSAValue"
COMPARE_INTEGERS: dict[str, Callable[[int, int], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}


@lru_cache(maxsize=256)
def buffer_of(element: Attribute) -> kern.BufferType:
    """The type of pointers to `element`."""
    return kern.BufferType(element)


@lru_cache(maxsize=4096)
def index_constant(value: int) -> IntegerAttr:
    """`value : index`."""
    return IntegerAttr(value, INDEX)


class LoopBody(Protocol):
    """Builds one iteration: from the index and the carried values to their next values."""

    def __call__(self, i: SSAValue, /, *carried: SSAValue) -> Sequence[SSAValue]: ...


@dataclass
class _Scope:
    block: Block
    memo: dict[tuple[object, ...], SSAValue] = field(
        default_factory=dict[tuple[object, ...], SSAValue]
    )


class KernBuilder:
    """Builds one function body. Implements `Scalar[SSAValue]` and `Indices[Index, SSAValue]`."""

    def __init__(self, name: str, kind: str = "kernel"):
        self.name = name
        self.kind = kind
        self.entry = Block()
        self._scopes = [_Scope(self.entry)]
        self._depths: dict[SSAValue, int] = {}
        self._dims: dict[Dim, SSAValue] = {}
        self.dim_arguments: list[Expr] = []

    # -- functions and blocks

    def argument(self, type: Attribute, name: str | None = None) -> SSAValue:
        """A new function argument."""
        value = self.entry.insert_arg(type, len(self.entry.args))
        value.name_hint = name
        self._depths[value] = 0
        return value

    def finish(self, *values: SSAValue) -> kern.FuncOp:
        """Return from the function and give it, without the pure ops that nothing uses."""
        self._append(kern.ReturnOp.create(operands=values))
        for op in reversed(list(self.entry.walk())):
            if op.results and op.has_trait(Pure) and not any(r.first_use for r in op.results):
                op.detach()
                op.erase()
        return kern.FuncOp.create(
            properties={"sym_name": text(self.name), "kind": text(self.kind)},
            regions=[Region(self.entry)],
        )

    def depth(self, value: SSAValue) -> int:
        """How many blocks deep `value` is defined."""
        return self._depths[value]

    def _append(self, op: Operation, depth: int | None = None) -> Operation:
        at = len(self._scopes) - 1 if depth is None else depth
        self._scopes[at].block.add_op(op)
        for result in op.results:
            self._depths[result] = at
        return op

    def _pure(
        self, key: tuple[object, ...], operands: Sequence[SSAValue], op: Operation
    ) -> SSAValue:
        depth = max((self._depths[v] for v in operands), default=0)
        self._append(op, depth)
        self._scopes[depth].memo[key] = op.results[0]
        return op.results[0]

    def _known(self, key: tuple[object, ...]) -> SSAValue | None:
        for scope in self._scopes:
            if (found := scope.memo.get(key)) is not None:
                return found
        return None

    @property
    def known_dims(self) -> dict[Dim, SSAValue]:
        """The symbolic extents that have a value here."""
        return self._dims

    def pure(
        self,
        cls: type[Operation],
        operands: Sequence[SSAValue],
        type: Attribute,
        **properties: Attribute,
    ) -> SSAValue:
        """The result of a pure op, made once and placed as far out as it can be."""
        return self._op(cls, operands, type, **properties)

    def _op(
        self,
        cls: type[Operation],
        operands: Sequence[SSAValue],
        type: Attribute,
        **properties: Attribute,
    ) -> SSAValue:
        key = (cls, type, *operands, *properties.values())
        if (found := self._known(key)) is not None:
            return found
        op = cls.create(operands=operands, result_types=(type,), properties=properties)
        return self._pure(key, operands, op)

    def region(
        self, types: Sequence[Attribute], body: Callable[..., Sequence[SSAValue] | None]
    ) -> Region:
        """A single-block region whose body is built by `body(*block arguments)`."""
        block = Block(arg_types=types)
        self._scopes.append(_Scope(block))
        depth = len(self._scopes) - 1
        for value in block.args:
            self._depths[value] = depth
        values = body(*block.args)
        if values is not None:
            self._append(kern.YieldOp.create(operands=list(values)))
        self._scopes.pop()
        return Region(block)

    # -- structured control flow

    def for_(
        self,
        lower: Index,
        upper: Index,
        body: LoopBody,
        init: Sequence[SSAValue] = (),
        step: int = 1,
        *,
        pure: bool = False,
    ) -> Sequence[SSAValue]:
        """`for i in range(lower, upper, step)`; `body(i, *carried)` gives the next values.

        A pure loop is placed outside the loops that it does not depend on.
        """
        operands = [self.index(lower), self.index(upper), *init]
        types = [v.type for v in init]
        region = self.region([INDEX, *types], body)
        op = kern.ForOp.create(
            operands=operands,
            result_types=types,
            properties={"step": integer(step)},
            regions=[region],
        )
        return self._append(op, self._outermost(operands, region) if pure else None).results

    def each(self, lower: Index, upper: Index, body: Callable[[SSAValue], None]) -> None:
        """`for i in range(lower, upper)` without carried values."""

        def run(i: SSAValue, *_: SSAValue) -> Sequence[SSAValue]:
            body(i)
            return ()

        self.for_(lower, upper, run)

    def _outermost(self, operands: Sequence[SSAValue], *regions: Region) -> int:
        """The depth of the innermost block that the operands or regions depend on."""
        captured = [v for region in regions for v in _captured(region, self._depths)]
        return max(self._depths[v] for v in (*operands, *captured))

    def while_(
        self,
        init: Sequence[SSAValue],
        condition: Callable[..., SSAValue],
        body: Callable[..., Sequence[SSAValue]],
    ) -> Sequence[SSAValue]:
        """Repeat `body(*carried)` while `condition(*carried)` holds."""
        types = [v.type for v in init]
        tested = self.region(types, lambda *carried: [condition(*carried)])
        repeated = self.region(types, body)
        op = kern.WhileOp.create(operands=init, result_types=types, regions=[tested, repeated])
        return self._append(op).results

    def if_(
        self,
        condition: SSAValue,
        then: Callable[[], Sequence[SSAValue]],
        otherwise: Callable[[], Sequence[SSAValue]] = lambda: (),
    ) -> Sequence[SSAValue]:
        """Run one of two bodies; both give values of the same types."""
        first, second = self.region((), then), self.region((), otherwise)
        last = first.block.last_op
        assert last is not None
        types = [v.type for v in last.operands]
        op = kern.IfOp.create(operands=[condition], result_types=types, regions=[first, second])
        return self._append(op).results

    def lanes(self, lower: Index, upper: Index, body: Callable[[SSAValue], None]) -> None:
        """Independent iterations of `body(i)`, side by side in vector lanes or threads."""
        operands = [self.index(lower), self.index(upper)]

        def run(i: SSAValue) -> None:
            body(i)

        self._append(kern.LanesOp.create(operands=operands, regions=[self.region([INDEX], run)]))

    def reduce(
        self,
        lower: Index,
        upper: Index,
        init: Sequence[SSAValue],
        element: Callable[[SSAValue], Sequence[SSAValue]],
        combine: Callable[..., Sequence[SSAValue]],
        *,
        lanes: int = 32,
        block: int = 4096,
    ) -> Sequence[SSAValue]:
        """Fold `element(i)` over the range with a fixed tree of `combine`."""
        operands = [self.index(lower), self.index(upper), *init]
        types = [v.type for v in init]
        first = self.region([INDEX], element)
        second = self.region([*types, *types], combine)
        depth = self._outermost(operands, first, second)
        op = kern.ReduceOp.create(
            operands=operands,
            result_types=types,
            properties={"lanes": integer(lanes), "block": integer(block)},
            regions=[first, second],
        )
        return self._append(op, depth).results

    # -- memory and effects

    def load(self, buffer: SSAValue, at: Index, mask: SSAValue | None = None) -> SSAValue:
        """Element `at` of a buffer that this function never writes; masked lanes give 0."""
        operands = [buffer, self.index(at), *([] if mask is None else [mask])]
        assert isinstance(buffer.type, kern.BufferType)
        return self._op(kern.LoadOp, operands, buffer.type.element)

    def load_now(self, buffer: SSAValue, at: Index, mask: SSAValue | None = None) -> SSAValue:
        """Element `at` of a buffer that this function also writes: stays where it is."""
        assert isinstance(buffer.type, kern.BufferType)
        operands = [buffer, self.index(at), *([] if mask is None else [mask])]
        types = (buffer.type.element,)
        return self._append(kern.LoadOp.create(operands=operands, result_types=types)).results[0]

    def store(
        self, value: SSAValue, buffer: SSAValue, at: Index, mask: SSAValue | None = None
    ) -> None:
        """Set element `at`."""
        operands = [value, buffer, self.index(at), *([] if mask is None else [mask])]
        self._append(kern.StoreOp.create(operands=operands))

    def scratch(self, element: Attribute, count: int) -> SSAValue:
        """Stack memory for `count` elements, made in the function's first block."""
        op = kern.ScratchOp.create(
            properties={"bytes": integer(max(count, 1) * dtype_of(element).bytes)},
            result_types=(buffer_of(element),),
        )
        return self._append(op, 0).results[0]

    def check(
        self, record: SSAValue, condition: SSAValue, value: Index, limit: Index, code: int
    ) -> None:
        """Record run-time check `code` as failed where `condition` is false."""
        operands = [record, condition, self.index(value), self.index(limit)]
        self._append(kern.CheckOp.create(operands=operands, properties={"code": integer(code)}))

    def effect(self, cls: type[Operation], *operands: SSAValue, **properties: Attribute) -> None:
        """Append an op without results at the innermost open block."""
        self._append(cls.create(operands=operands, properties=properties))

    def append(self, op: Operation) -> None:
        """Append an op that was built elsewhere at the innermost open block."""
        self._append(op)

    def value(
        self, cls: type[Operation], type: Attribute, *operands: SSAValue, **properties: Attribute
    ) -> SSAValue:
        """Append an op with one result at the innermost open block."""
        op = cls.create(operands=operands, result_types=(type,), properties=properties)
        return self._append(op).results[0]

    def symbol(self, name: str) -> SymbolRefAttr:
        """A reference to the function `name`."""
        return SymbolRefAttr(name)

    # -- Indices[Index, SSAValue]

    def index(self, value: Index) -> SSAValue:
        """An index as an SSA value."""
        if isinstance(value, SSAValue):
            return value
        key = (kern.ConstOp, value)
        if (found := self._known(key)) is not None:
            return found
        op = kern.ConstOp.create(result_types=(INDEX,), properties={"value": index_constant(value)})
        return self._pure(key, (), op)

    def dim(self, dim: Dim) -> Index:
        """An extent: a constant, or a function argument that the caller computes."""
        if isinstance(dim, int):
            return dim
        if self.kind == "host":
            return self._dims[dim] if dim in self._dims else self._expression(dim)
        if dim not in self._dims:
            self._dims[dim] = self.argument(INDEX, "dim")
            self.dim_arguments.append(dim)
        return self._dims[dim]

    def define_dim(self, dim: Expr, value: SSAValue) -> None:
        """Say which value a symbolic extent has in this host function."""
        self._dims[dim] = value

    def _expression(self, dim: Expr) -> Index:
        total: Index = 0
        for monomial, coefficient in dim.terms:
            term: Index = coefficient
            for atom in monomial:
                term = self.mul_index(term, self._atom(atom))
            total = self.add_index(total, term)
        return total

    def _atom(self, atom: Atom) -> Index:
        if not atom.arguments:
            return self._dims[Expr((((atom,), 1),))]
        a, b = (self.dim(argument) for argument in atom.arguments)
        if atom.name == "bcast":
            return self.select_index(self.compare_index("eq", a, 1), b, a)
        return self._index_op({"floordiv": "floordiv"}.get(atom.name, atom.name), a, b)

    def _index_op(self, kind: str, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return _fold(kind, a, b)
        return self._op(kern.BinaryOp, [self.index(a), self.index(b)], INDEX, kind=text(kind))

    def add_index(self, a: Index, b: Index) -> Index:
        if a == 0:
            return b
        return a if b == 0 else self._index_op("add", a, b)

    def sub_index(self, a: Index, b: Index) -> Index:
        return a if b == 0 else self._index_op("sub", a, b)

    def mul_index(self, a: Index, b: Index) -> Index:
        if a == 0 or b == 0:
            return 0
        if a == 1:
            return b
        return a if b == 1 else self._index_op("mul", a, b)

    def floordiv(self, a: Index, b: Index) -> Index:
        """`a // b`, rounded down; `b` is positive."""
        return a if b == 1 else self._index_op("floordiv", a, b)

    def mod(self, a: Index, b: Index) -> Index:
        """`a % b` with the sign of `b`; `b` is positive."""
        return 0 if b == 1 else self._index_op("mod", a, b)

    def min_index(self, a: Index, b: Index) -> Index:
        return self._index_op("min", a, b)

    def max_index(self, a: Index, b: Index) -> Index:
        return self._index_op("max", a, b)

    def compare_index(self, kind: str, a: Index, b: Index) -> SSAValue:
        if isinstance(a, int) and isinstance(b, int):
            return self.const(COMPARE_INTEGERS[kind](a, b), dtypes.i1)
        operands = [self.index(a), self.index(b)]
        return self._op(kern.CompareOp, operands, dtypes.i1, kind=text(kind))

    def select_index(self, condition: SSAValue, a: Index, b: Index) -> Index:
        if isinstance(known := self.known_bool(condition), bool):
            return a if known else b
        return self._op(kern.SelectOp, [condition, self.index(a), self.index(b)], INDEX)

    def known_bool(self, value: SSAValue) -> bool | None:
        """The value of a bool constant; None for anything else."""
        if isinstance(value, OpResult) and isinstance(value.op, kern.ConstOp):
            constant = value.op.properties["value"]
            if isinstance(constant, IntegerAttr):
                return constant.value.data != 0
        return None

    # -- Scalar[SSAValue]

    def dtype(self, a: SSAValue) -> Attribute:
        return a.type

    def const(self, value: float | bool, dtype: Attribute) -> SSAValue:
        key = (kern.ConstOp, type(value), repr(value), dtype)
        if (found := self._known(key)) is not None:
            return found
        row = dtype_of(dtype)
        if row.kind == "float":
            attribute: Attribute = FloatAttr(float(value), dtypes.f64)
        else:
            attribute = IntegerAttr(int(value), dtypes.i64 if row.bits > 1 else dtypes.i8)
        op = kern.ConstOp.create(result_types=(dtype,), properties={"value": attribute})
        return self._pure(key, (), op)

    index_type = INDEX

    def is_loop_index(self, value: SSAValue) -> bool:
        """Whether an index is a loop's or affine in one, and so inside by construction."""
        work = [value]
        while work:
            current = work.pop()
            if not isinstance(current, OpResult) or isinstance(current.op, kern.ConstOp):
                continue
            if not isinstance(current.op, kern.BinaryOp):
                return False
            work.extend(current.op.operands)
        return True

    def is_float(self, a: SSAValue) -> bool:
        """Whether a value is a real floating-point number."""
        return not isinstance(a.type, IndexType) and dtype_of(a.type).kind == "float"

    def binary(self, kind: str, a: SSAValue, b: SSAValue) -> SSAValue:
        return self._op(kern.BinaryOp, [a, b], a.type, kind=text(kind))

    def unary(self, kind: str, a: SSAValue) -> SSAValue:
        return self._op(kern.UnaryOp, [a], a.type, kind=text(kind))

    def compare(self, kind: str, a: SSAValue, b: SSAValue) -> SSAValue:
        return self._op(kern.CompareOp, [a, b], dtypes.i1, kind=text(kind))

    def add(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("add", a, b)

    def sub(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("sub", a, b)

    def mul(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("mul", a, b)

    def div(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("div", a, b)

    def rem(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("rem", a, b)

    def fma(self, a: SSAValue, b: SSAValue, c: SSAValue) -> SSAValue:
        return self._op(kern.FmaOp, [a, b, c], a.type)

    def neg(self, a: SSAValue) -> SSAValue:
        return self.unary("neg", a)

    def abs(self, a: SSAValue) -> SSAValue:
        return self.unary("abs", a)

    def min(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("min", a, b)

    def max(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("max", a, b)

    def eq(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.compare("eq", a, b)

    def ne(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.compare("ne", a, b)

    def lt(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.compare("lt", a, b)

    def le(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.compare("le", a, b)

    def gt(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.compare("gt", a, b)

    def ge(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.compare("ge", a, b)

    def select(self, condition: SSAValue, a: SSAValue, b: SSAValue) -> SSAValue:
        return self._op(kern.SelectOp, [condition, a, b], a.type)

    def and_(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("and", a, b)

    def or_(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("or", a, b)

    def xor(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("xor", a, b)

    def not_(self, a: SSAValue) -> SSAValue:
        return self.unary("not", a)

    def shl(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("shl", a, b)

    def shr(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.binary("shr", a, b)

    def cast(self, a: SSAValue, dtype: Attribute) -> SSAValue:
        return a if a.type == dtype else self._op(kern.CastOp, [a], dtype)

    def bitcast(self, a: SSAValue, dtype: Attribute) -> SSAValue:
        return a if a.type == dtype else self._op(kern.BitcastOp, [a], dtype)

    def floor(self, a: SSAValue) -> SSAValue:
        return self.unary("floor", a)

    def ceil(self, a: SSAValue) -> SSAValue:
        return self.unary("ceil", a)

    def trunc(self, a: SSAValue) -> SSAValue:
        return self.unary("trunc", a)

    def round(self, a: SSAValue) -> SSAValue:
        return self.unary("round", a)

    def sqrt(self, a: SSAValue) -> SSAValue:
        return self.unary("sqrt", a)

    def math(self, name: str, *operands: SSAValue) -> SSAValue:
        return self._op(kern.MathOp, operands, operands[0].type, function=StringAttr(name))


class IndexView:
    """`Indices[Index, SSAValue]` over a builder, with the names that the protocol has."""

    def __init__(self, builder: KernBuilder):
        self.b = builder

    def dim(self, dim: Dim) -> Index:
        return self.b.dim(dim)

    def add(self, a: Index, b: Index) -> Index:
        return self.b.add_index(a, b)

    def sub(self, a: Index, b: Index) -> Index:
        return self.b.sub_index(a, b)

    def mul(self, a: Index, b: Index) -> Index:
        return self.b.mul_index(a, b)

    def floordiv(self, a: Index, b: Index) -> Index:
        return self.b.floordiv(a, b)

    def mod(self, a: Index, b: Index) -> Index:
        return self.b.mod(a, b)

    def min(self, a: Index, b: Index) -> Index:
        return self.b.min_index(a, b)

    def max(self, a: Index, b: Index) -> Index:
        return self.b.max_index(a, b)

    def lt(self, a: Index, b: Index) -> SSAValue:
        return self.b.compare_index("lt", a, b)

    def ge(self, a: Index, b: Index) -> SSAValue:
        return self.b.compare_index("ge", a, b)

    def eq(self, a: Index, b: Index) -> SSAValue:
        return self.b.compare_index("eq", a, b)

    def both(self, a: SSAValue, b: SSAValue) -> SSAValue:
        return self.b.and_(a, b)

    def select(self, condition: SSAValue, a: Index, b: Index) -> Index:
        return self.b.select_index(condition, a, b)


def _fold(kind: str, a: int, b: int) -> int:
    match kind:
        case "add":
            return a + b
        case "sub":
            return a - b
        case "mul":
            return a * b
        case "floordiv":
            return a // b
        case "mod":
            return a % b
        case "min":
            return min(a, b)
        case _:
            return max(a, b)


def _captured(region: Region, depths: dict[SSAValue, int]) -> set[SSAValue]:
    inside: set[SSAValue] = set()
    captured: set[SSAValue] = set()
    for block in region.blocks:
        inside.update(block.args)
    for op in region.walk():
        for nested in op.regions:
            for block in nested.blocks:
                inside.update(block.args)
        inside.update(op.results)
    for op in region.walk():
        captured.update(v for v in op.operands if v not in inside)
    return captured & depths.keys()
