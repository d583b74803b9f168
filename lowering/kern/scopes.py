"""Where `kern` ops go: blocks, structured control flow, memory.

An op is put into the outermost open block in which its operands are defined, and equal pure ops
are made once, so loop-invariant code and common subexpressions never enter the inner loops.

A complex number is a `kern.complex` of its two parts while code is built. Control flow and memory
take it apart, so that a finished function has real numbers only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, TypeAlias

from xdsl.dialects.builtin import ComplexType, IntegerAttr, SymbolRefAttr, UnitAttr
from xdsl.ir import Attribute, Block, Operation, OpResult, Region, SSAValue
from xdsl.traits import Pure

from lowering.kern import dialect as kern
from lowering.kern.dialect import INDEX
from lowering.kern.remainders import count_remainders
from torsh_dialect import dtypes
from torsh_dialect.attributes import integer, text
from torsh_dialect.dtypes import dtype_of

Index: TypeAlias = "int | SSAValue"


@lru_cache(maxsize=256)
def buffer_of(element: Attribute) -> kern.BufferType:
    """The type of pointers to `element`."""
    return kern.BufferType(element)


@lru_cache(maxsize=4096)
def index_constant(value: int) -> IntegerAttr:
    """`value : index`."""
    return IntegerAttr(value, INDEX)


def part_of(element: Attribute) -> Attribute | None:
    """The element type of a complex type's parts; None for other types."""
    if not isinstance(element, ComplexType):
        return None
    return dtypes.f32 if element == dtypes.c64 else dtypes.f64


class LoopBody(Protocol):
    """Builds one iteration: from the index and the carried values to their next values."""

    def __call__(self, i: SSAValue, /, *carried: SSAValue) -> Sequence[SSAValue]: ...


@dataclass
class _Scope:
    """An open block.

    Attributes:
        block: Where ops go.
        lanes: The bounds of the lanes loop whose body this is.
        memo: The pure ops that it has.
    """

    block: Block
    lanes: tuple[Index, Index] | None = None
    memo: dict[tuple[object, ...], SSAValue] = field(
        default_factory=dict[tuple[object, ...], SSAValue]
    )


class ScopedBuilder:
    """Builds one function body: blocks, loops, memory. `builder.KernBuilder` adds arithmetic."""

    def __init__(self, name: str, kind: str = "kernel"):
        self.name = name
        self.kind = kind
        self.entry = Block()
        self._scopes = [_Scope(self.entry)]
        self._depths: dict[SSAValue, int] = {}

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

    def once(self, key: tuple[object, ...], build: Callable[[], SSAValue]) -> SSAValue:
        """The value that `build` gave for a key, in a block that is still open; else a new one."""
        if (found := self._known(key)) is None:
            found = build()
            self._scopes[self._depths[found]].memo[key] = found
        return found

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
        self,
        types: Sequence[Attribute],
        body: Callable[..., Sequence[SSAValue] | None],
        lanes: tuple[Index, Index] | None = None,
    ) -> Region:
        """A single-block region whose body is built by `body(*block arguments)`.

        `lanes` are the bounds of a lanes loop.
        """
        block = Block(arg_types=types)
        self._scopes.append(_Scope(block, lanes))
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
        nonempty: bool = False,
    ) -> Sequence[SSAValue]:
        """`for i in range(lower, upper, step)`; `body(i, *carried)` gives the next values.

        A pure loop is placed outside the loops that it does not depend on. A loop that is said to
        be `nonempty` does not ask whether it has a turn.
        """
        shape = [v.type for v in init]
        flat = self.parts(init)
        operands = [self.index(lower), self.index(upper), *flat]
        types = [v.type for v in flat]

        def split(i: SSAValue, *carried: SSAValue) -> Sequence[SSAValue]:
            return self.parts(body(i, *self.whole(shape, carried)))

        region = self.region([INDEX, *types], split)
        op = kern.ForOp.create(
            operands=operands,
            result_types=types,
            properties={"step": integer(step), **({"nonempty": UnitAttr()} if nonempty else {})},
            regions=[region],
        )
        results = self._append(op, self._outermost(operands, region) if pure else None).results
        return self.whole(shape, results)

    def each(
        self, lower: Index, upper: Index, body: Callable[[SSAValue], None], step: int = 1
    ) -> None:
        """`for i in range(lower, upper, step)` without carried values."""

        def run(i: SSAValue) -> Sequence[SSAValue]:
            body(i)
            return ()

        region = self.region([INDEX], run)
        first = count_remainders(self, region.block, self.index(lower)) if step == 1 else []
        operands = [self.index(lower), self.index(upper), *first]
        properties = {"step": integer(step)}
        types = [v.type for v in first]
        self._append(kern.ForOp.create(
            operands=operands, result_types=types, properties=properties, regions=[region]
        ))  # fmt: skip

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
        shape = [v.type for v in init]
        flat = self.parts(init)
        types = [v.type for v in flat]
        tested = self.region(types, lambda *c: [condition(*self.whole(shape, c))])
        repeated = self.region(types, lambda *c: self.parts(body(*self.whole(shape, c))))
        op = kern.WhileOp.create(operands=flat, result_types=types, regions=[tested, repeated])
        return self.whole(shape, self._append(op).results)

    def if_(
        self,
        condition: SSAValue,
        then: Callable[[], Sequence[SSAValue]],
        otherwise: Callable[[], Sequence[SSAValue]] = lambda: (),
    ) -> Sequence[SSAValue]:
        """Run one of two bodies; both give values of the same types."""
        shape: list[Attribute] = []

        def split(arm: Callable[[], Sequence[SSAValue]]) -> Sequence[SSAValue]:
            values = arm()
            shape[:] = [v.type for v in values]
            return self.parts(values)

        first = self.region((), lambda: split(then))
        second = self.region((), lambda: split(otherwise))
        last = first.block.last_op
        assert last is not None
        types = [v.type for v in last.operands]
        op = kern.IfOp.create(operands=[condition], result_types=types, regions=[first, second])
        return self.whole(shape, self._append(op).results)

    def lanes(
        self,
        lower: Index,
        upper: Index,
        body: Callable[[SSAValue], None],
        most: int | None = None,
    ) -> None:
        """Independent iterations of `body(i)`, side by side in vector lanes or threads.

        `most` is the largest number of iterations there can be, where that is known.
        """
        operands = [self.index(lower), self.index(upper)]

        def run(i: SSAValue) -> None:
            body(i)

        properties = {} if most is None else {"most": integer(most)}
        region = self.region([INDEX], run, (lower, upper))
        self._append(
            kern.LanesOp.create(operands=operands, regions=[region], properties=properties)
        )

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
        shape = [v.type for v in init]
        flat = self.parts(init)
        operands = [self.index(lower), self.index(upper), *flat]
        types = [v.type for v in flat]

        def lifted(i: SSAValue) -> Sequence[SSAValue]:
            return self.parts(element(i))

        first = self.region([INDEX], lifted)
        second = self.region(
            [*types, *types], lambda *v: self.parts(combine(*self.whole([*shape, *shape], v)))
        )
        depth = self._outermost(operands, first, second)
        op = kern.ReduceOp.create(
            operands=operands,
            result_types=types,
            properties={"lanes": integer(lanes), "block": integer(block)},
            regions=[first, second],
        )
        return self.whole(shape, self._append(op, depth).results)

    # -- complex numbers

    def complex(self, real: SSAValue, imaginary: SSAValue) -> SSAValue:
        """The complex number of two parts."""
        whole = dtypes.c64 if real.type == dtypes.f32 else dtypes.c128
        return self._op(kern.ComplexOp, [real, imaginary], whole)

    def pair(self, value: SSAValue) -> tuple[SSAValue, SSAValue]:
        """The parts of a complex number."""
        assert isinstance(value, OpResult)
        assert isinstance(value.op, kern.ComplexOp)
        return value.op.real, value.op.imaginary

    def parts(self, values: Sequence[SSAValue]) -> Sequence[SSAValue]:
        """`values` with the complex ones replaced by their parts."""
        if all(part_of(v.type) is None for v in values):
            return values
        pairs = (self.pair(v) if part_of(v.type) else (v,) for v in values)
        return [part for pair in pairs for part in pair]

    def whole(self, types: Sequence[Attribute], values: Sequence[SSAValue]) -> Sequence[SSAValue]:
        """The inverse of `parts`: values of `types`."""
        if len(types) == len(values):
            return values
        rest = iter(values)
        return [self.complex(next(rest), next(rest)) if part_of(t) else next(rest) for t in types]

    def _halves(self, buffer: SSAValue, at: Index) -> tuple[SSAValue, Index, Index] | None:
        """A complex buffer as one of parts, and where both parts are; None for other buffers."""
        assert isinstance(buffer.type, kern.BufferType)
        part = part_of(buffer.type.element)
        if part is None:
            return None
        parts = self._op(kern.OffsetOp, [buffer, self.index(0)], buffer_of(part))
        first = self.doubled(at)
        return parts, first, self.following(first)

    def doubled(self, at: Index) -> Index:
        """Twice an index."""
        if isinstance(at, int):
            return 2 * at
        return self._op(kern.BinaryOp, [at, self.index(2)], INDEX, kind=text("mul"))

    def following(self, at: Index) -> Index:
        """The next index."""
        if isinstance(at, int):
            return at + 1
        return self._op(kern.BinaryOp, [at, self.index(1)], INDEX, kind=text("add"))

    # -- memory and effects

    def load(self, buffer: SSAValue, at: Index, mask: SSAValue | None = None) -> SSAValue:
        """Element `at` of a buffer that this function never writes; masked lanes give 0."""
        if (halves := self._halves(buffer, at)) is not None:
            parts, *places = halves
            return self.complex(*(self.load(parts, place, mask) for place in places))
        operands = [buffer, self.index(at), *([] if mask is None else [mask])]
        assert isinstance(buffer.type, kern.BufferType)
        return self._op(kern.LoadOp, operands, buffer.type.element)

    def load_now(self, buffer: SSAValue, at: Index, mask: SSAValue | None = None) -> SSAValue:
        """Element `at` of a buffer that this function also writes: stays where it is."""
        if (halves := self._halves(buffer, at)) is not None:
            parts, *places = halves
            return self.complex(*(self.load_now(parts, place, mask) for place in places))
        assert isinstance(buffer.type, kern.BufferType)
        operands = [buffer, self.index(at), *([] if mask is None else [mask])]
        types = (buffer.type.element,)
        return self._append(kern.LoadOp.create(operands=operands, result_types=types)).results[0]

    def store(
        self, value: SSAValue, buffer: SSAValue, at: Index, mask: SSAValue | None = None
    ) -> None:
        """Set element `at`."""
        if (halves := self._halves(buffer, at)) is not None:
            parts, *places = halves
            for half, place in zip(self.pair(value), places, strict=True):
                self.store(half, parts, place, mask)
            return
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
        """Record run-time check `code` as failed where `condition` is false.

        What is the same for all lanes is checked once before them, if there are any.
        """
        operands = [record, condition, self.index(value), self.index(limit)]
        lanes, at = self._scopes[-1].lanes, len(self._scopes) - 2
        depth = None
        if lanes is not None and all(self._depths[v] <= at for v in operands):
            depth, operands[1] = at, self._or_none(condition, *lanes)
        op = kern.CheckOp.create(operands=operands, properties={"code": integer(code)})
        self._append(op, depth)

    def _or_none(self, condition: SSAValue, lower: Index, upper: Index) -> SSAValue:
        """A condition, or that a range is empty."""
        if isinstance(lower, int) and isinstance(upper, int) and lower < upper:
            return condition
        bounds = [self.index(lower), self.index(upper)]
        none = self.pure(kern.CompareOp, bounds, dtypes.i1, kind=text("ge"))
        return self.pure(kern.BinaryOp, [condition, none], dtypes.i1, kind=text("or"))

    def guard(
        self, record: SSAValue, condition: SSAValue, value: Index, limit: Index, code: int
    ) -> None:
        """End this host function with status `code` where `condition` is false."""
        operands = [record, condition, self.index(value), self.index(limit)]
        self._append(kern.GuardOp.create(operands=operands, properties={"code": integer(code)}))

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

    def index(self, value: Index) -> SSAValue:
        """An index as an SSA value."""
        if isinstance(value, SSAValue):
            return value
        key = (kern.ConstOp, value)
        if (found := self._known(key)) is not None:
            return found
        op = kern.ConstOp.create(result_types=(INDEX,), properties={"value": index_constant(value)})
        return self._pure(key, (), op)


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
