"""Values by element: asks a region of torsh ops for one element and builds the code that gives it.

The region is pure, so an element of its result is an expression over elements of its inputs:
element-wise ops apply their body, movement ops map the index, reductions loop. Code that does
not depend on an inner loop is placed outside it by the builder, so a fused softmax computes its
row maximum once a row without a rule that says so.

Axes may be grouped: adjacent axes that every access treats alike are one loop.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from xdsl.ir import Attribute, BlockArgument, Operation, OpResult, SSAValue

from lowering.cpu.arithmetic import is_narrow_float
from lowering.kern.builder import Index, IndexView, KernBuilder
from torsh_dialect import dtypes
from torsh_dialect.dims import Dim, product
from torsh_dialect.errors import UnsupportedError
from torsh_dialect.kinds import TensorOp
from torsh_dialect.types import dims_of, element_type

Groups = tuple[tuple[int, ...], ...]
Rule = Callable[["Evaluator", Operation, int, Sequence[Index], "SSAValue | None"], SSAValue]

RULES: dict[type, Rule] = {}
"""How an op class or kind gives one element of a result."""


def rule(*classes: type) -> Callable[[Rule], Rule]:
    """Register the rule of some op classes or kinds."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(classes, function))
        return function

    return register


def rule_of(op_type: type[Operation]) -> Rule | None:
    """The rule of an op class: its own, or its nearest kind's."""
    for base in op_type.__mro__:
        if base in RULES:
            return RULES[base]
    return None


@dataclass
class Evaluator:
    """Builds elements of values.

    Attributes:
        builder: Where code goes.
        buffers: Buffers (`!kern.buf`) of the values that are in memory.
        record: The error record, for run-time checks.
        groups: Axes of the iteration space by loop; None for one loop an axis.
        lanes_depth: Block depth of the lanes loop around; values as deep vary over lanes.
        assumed: Symbolic extents and what they are equal to where this code runs: code for a case
            that a condition around it has found.
        maybe: For an index that is 0 where an operand is broadcast: the condition, and the index
            where it does not hold.
        interior: Indices at which the windows of the region lie inside of their input.
        roomy: Those at which whole vectors may be read at each tap.
    """

    builder: KernBuilder
    buffers: Mapping[SSAValue, SSAValue]
    record: SSAValue | None = None
    groups: Groups | None = None
    lanes_depth: int | None = None
    assumed: Mapping[Dim, Dim] = field(default_factory=dict[Dim, Dim])
    maybe: dict[SSAValue, tuple[SSAValue, Index]] = field(
        default_factory=dict[SSAValue, tuple[SSAValue, Index]]
    )
    interior: set[Index] = field(default_factory=set[Index])
    roomy: set[Index] = field(default_factory=set[Index])

    # -- shapes in the space of groups

    def dims(self, value: SSAValue) -> tuple[Dim, ...]:
        """The extents of a value, one for each group."""
        dims = self._known(dims_of(value))
        if self.groups is None:
            return dims
        rank = sum(map(len, self.groups))
        padded = (1,) * (rank - len(dims)) + dims
        return self._known(product(padded[axis] for axis in group) for group in self.groups)

    def _known(self, dims: Iterable[Dim]) -> tuple[Dim, ...]:
        return tuple(self.assumed.get(dim, dim) for dim in dims)

    def grouped(self, groups: Groups | None) -> Evaluator:
        """An evaluator over the same region with other groups."""
        return replace(self, groups=groups)

    def varies(self, index: Sequence[Index]) -> bool:
        """Whether an index depends on the lanes loop around."""
        if self.lanes_depth is None:
            return False
        return any(
            isinstance(i, SSAValue) and self.builder.depth(i) >= self.lanes_depth for i in index
        )

    # -- elements

    def element(
        self, value: SSAValue, index: Sequence[Index], where: SSAValue | None = None
    ) -> SSAValue:
        """The element of `value` at `index`; of any value where `where` does not hold.

        Raises:
            UnsupportedError: An op of the region has no rule.
        """
        if value in self.buffers:
            return self._loaded(value, index, where)
        assert isinstance(value, OpResult), f"{value} is neither in memory nor computed"
        rule = rule_of(type(value.op))
        if rule is None:
            raise UnsupportedError(f"{value.op.name} has no lowering by element")
        if value.has_one_use():
            return rule(self, value.op, value.index, index, where)
        # Else the rule would run once for each path to its value: exponentially often in chains.
        key = (Evaluator, value, self.groups, self.lanes_depth, where, *index)
        return self.builder.once(key, lambda: rule(self, value.op, value.index, index, where))

    def _loaded(self, value: SSAValue, index: Sequence[Index], where: SSAValue | None) -> SSAValue:
        """An element in memory; where an axis may be broadcast, neighbours or one for all lanes."""
        b, buffer = self.builder, self.buffers[value]
        choice = next((i for i in index if isinstance(i, SSAValue) and i in self.maybe), None)
        if choice is None:
            at = self.flat(self.dims(value), index)
            # Code for a case stays behind its condition: elsewhere the element may not exist.
            load = b.load_now if self.assumed else b.load
            return load(buffer, at, where)
        condition, other = self.maybe[choice]

        def single() -> Sequence[SSAValue]:
            at = self.flat(self.dims(value), [0 if i is choice else i for i in index])
            return [b.load_now(buffer, at, where)]

        def each() -> Sequence[SSAValue]:
            return [self._loaded(value, [other if i is choice else i for i in index], where)]

        return b.if_(condition, single, each)[0]

    def both(self, a: SSAValue | None, b: SSAValue | None) -> SSAValue | None:
        """The condition that both hold; None stands for true."""
        return b if a is None else a if b is None else self.builder.and_(a, b)

    def computed(
        self, value: SSAValue, index: Sequence[Index], where: SSAValue | None = None
    ) -> SSAValue:
        """An element as it is computed with: halves and smaller floats as f32."""
        element = self.element(value, index, where)
        return self.builder.cast(element, compute_type(element.type))

    def broadcast(
        self, operand: SSAValue, index: Sequence[Index], result: Sequence[Dim]
    ) -> list[Index]:
        """The index into an operand that is broadcast to extents `result`."""
        dims = self.dims(operand)
        skipped = len(index) - len(dims)
        return [
            self.along(dim, index[skipped + axis], result[skipped + axis])
            for axis, dim in enumerate(dims)
        ]

    def along(self, dim: Dim, index: Index, result: Dim) -> Index:
        """The place along an axis of extent `dim` that broadcasts to an axis of extent `result`."""
        if dim == 1 or index == 0:
            return 0
        if dim == result or isinstance(dim, int):
            return index
        b = self.builder
        condition = b.compare_index("eq", b.dim(dim), 1)
        chosen = b.select_index(condition, 0, index)
        if isinstance(chosen, SSAValue) and self.varies([index]):
            self.maybe[chosen] = condition, index
        return chosen

    def flat(self, dims: Sequence[Dim], index: Sequence[Index]) -> Index:
        """The row-major position of `index` in a tensor of extents `dims`."""
        b = self.builder
        position: Index = 0
        whole: Index | None = None
        for axis, (dim, own) in enumerate(zip(dims, index, strict=True)):
            if dim == 1:
                continue
            i = own if whole is None else whole
            following = axis + 1 < len(dims) and dims[axis + 1] != 1
            whole = b.raveled(i, index[axis + 1], dims[axis + 1]) if following else None
            if whole is None:
                stride = b.dim(product(dims[axis + 1 :]))
                position = b.add_index(position, b.mul_index(i, stride))
        return position

    @property
    def indices(self) -> IndexView:
        """Index arithmetic for `Movement.pick`."""
        return IndexView(self.builder)


def compute_type(element: Attribute) -> Attribute:
    """The type in which elements are computed with: f32 for all smaller floats."""
    return dtypes.f32 if is_narrow_float(element) else element


def merged_groups(
    values: Sequence[SSAValue],
    dims: Sequence[Dim],
    border: Sequence[bool],
    full: Container[tuple[Dim, Dim]] = (),
) -> Groups:
    """Group adjacent axes of an iteration space that all values access alike.

    Args:
        values: Everything that is read in the space, broadcast to it, right-aligned.
        dims: Extents of the space.
        border: `border[n]` says that axis n must not be joined to axis n - 1.
        full: Pairs of an own extent and one of the space that are taken to be equal.
    """
    rank = len(dims)
    groups: list[list[int]] = []
    for axis in range(rank):
        joins = bool(groups) and not border[axis]
        if joins and all(_alike(value, dims, [*groups[-1], axis], full) for value in values):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return tuple(tuple(group) for group in groups)


def _alike(
    value: SSAValue, dims: Sequence[Dim], axes: Sequence[int], full: Container[tuple[Dim, Dim]]
) -> bool:
    """Whether a value is read in one way along all of `axes` (any way is right for extent 1)."""
    own = dims_of(value)
    padded = (1,) * (len(dims) - len(own)) + own
    ways = {_access(padded[n], dims[n], full) for n in axes if dims[n] != 1}
    return len(ways) <= 1 and "unknown" not in ways


def _access(own: Dim, extent: Dim, full: Container[tuple[Dim, Dim]]) -> str:
    if own == extent or (own, extent) in full:
        return "full"
    return "broadcast" if own == 1 else "unknown"


def unknown_extents(values: Sequence[SSAValue], dims: Sequence[Dim]) -> dict[tuple[Dim, Dim], None]:
    """Pairs of an own extent and one of the space of which only the run knows if they differ."""
    pairs: dict[tuple[Dim, Dim], None] = {}
    for value in values:
        own = dims_of(value)
        for pair in zip(own, dims[len(dims) - len(own) :], strict=True):
            if pair[1] != 1 and _access(*pair, ()) == "unknown":
                pairs[pair] = None
    return pairs


def region_values(
    roots: Sequence[SSAValue], buffers: Mapping[SSAValue, SSAValue]
) -> list[SSAValue]:
    """All values that `roots` are computed from, within the region, inputs among them."""
    seen: dict[SSAValue, None] = {}
    work = list(roots)
    while work:
        value = work.pop()
        if value in seen:
            continue
        seen[value] = None
        if value not in buffers and isinstance(value, OpResult):
            work.extend(value.op.operands)
    return list(seen)


def source_op(value: SSAValue) -> TensorOp | None:
    """The torsh op that computes a value, if one does."""
    if isinstance(value, BlockArgument):
        return None
    assert isinstance(value, OpResult)
    return value.op if isinstance(value.op, TensorOp) else None


def result_element(op: Operation, number: int = 0) -> Attribute:
    """The element type of a result."""
    return element_type(op.results[number])
