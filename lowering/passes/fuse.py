"""Group ops into `torsh.fused` regions, one kernel each.

Before:

    %a = torsh.add %x, %y : ...
    %b = torsh.relu %a : ...

After:

    %b = torsh.fused %x, %y { %a = torsh.add ...; %b = torsh.relu ...; torsh.yield %b } : ...

An op joins the region of its consumers when all of them are in that region and its elements are
cheap to compute where they are used; a reduction joins the element-wise ops after it that finish
its elements; one that counts or tells an extent, so has no operands, is
copied into each region that uses it; a matrix product or convolution joins the element-wise ops
after it as their root. Views, weights, constants and control flow stay outside.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, Operation, OpResult, Region, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

import lowering.generic.all_rules  # noqa: F401  # pyright: ignore[reportUnusedImport]
from lowering.generic.kernels import is_whole_kernel
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.kinds import (
    Contract,
    Control,
    DataDependent,
    Elementwise,
    Movement,
    Random,
    Reduce,
    TensorOp,
    Window,
)
from torsh_dialect.ops.constant import ConstantOp, WeightOp
from torsh_dialect.ops.control import LoopOp, YieldOp
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.ops.norm import LayerNormOp, RmsNormOp
from torsh_dialect.ops.packed import PackedLinearOp, WinogradFiltersOp
from torsh_dialect.ops.packed_blocks import PackedLinearBlocksOp
from torsh_dialect.ops.packed_integer import PackedLinearIntegerOp
from torsh_dialect.ops.select import CastOp
from torsh_dialect.ops.shape import AssumeOp, BindOp
from torsh_dialect.ops.softmax import LogSoftmaxOp, SoftmaxOp
from torsh_dialect.ops.strided_attention import StridedAttentionOp
from torsh_dialect.types import dims_of, element_type, rank_of

MOST_OPS = 64
"""Ops of a region: more would make code that the instruction cache does not hold."""

MOST_READS = 64
"""How often the code for one element of a region may ask an op for an element: joins of a value
with itself double that, each time at another place."""

MOST_SOURCES = 8
"""Operands of a movement op that joins a region: each becomes a masked access."""


def is_view(op: Operation) -> bool:
    """Whether the op's result is its first operand's memory, perhaps under another shape."""
    return isinstance(op, BindOp | AssumeOp) or (isinstance(op, Movement) and op.is_view())


def is_outside(op: Operation) -> bool:
    """Whether the op never becomes part of a kernel."""
    outside = Control | ConstantOp | WeightOp | YieldOp
    return not isinstance(op, TensorOp) or isinstance(op, outside) or is_view(op)


def is_leaf(op: Operation) -> bool:
    """Whether the op's elements follow from their places and the extents alone."""
    plain = not op.operands and not op.regions and len(op.results) == 1
    special = Random | DataDependent
    return plain and not is_outside(op) and not isinstance(op, special) and not is_whole_kernel(op)


def is_template_root(op: Operation) -> bool:
    """Whether ops after this one can become its epilogue."""
    packed = PackedLinearOp | PackedLinearIntegerOp | PackedLinearBlocksOp
    return isinstance(op, Contract | Window | packed) or is_row_template(op)


def is_row_template(op: Operation) -> bool:
    """Whether the op goes over rows, and ops before it can become its prologue."""
    return isinstance(op, SoftmaxOp | LogSoftmaxOp | LayerNormOp | RmsNormOp)


@dataclass
class Group:
    """Ops of one region to be, in reverse order; the first is its root."""

    root: Operation
    ops: list[Operation] = field(default_factory=list[Operation])
    template: Operation | None = None
    reads: dict[Operation, int] = field(default_factory=dict[Operation, int])

    def reads_of(self, op: Operation) -> int:
        """How often one element of the root asks an op, all of whose uses are here, for one."""
        moved, kept = 0, 1
        for user in (use.operation for result in op.results for use in result.uses):
            times = self.reads.get(user, 1)
            if isinstance(user, Movement):
                moved += times
            else:
                kept = max(kept, times)  # uses at the same place share the code
        return max(moved, kept)

    def add(self, op: Operation) -> None:
        self.reads[op] = self.reads_of(op) if self.ops else 1
        self.ops.append(op)
        if is_template_root(op) or isinstance(op, WinogradFiltersOp | StridedAttentionOp):
            self.template = op


class Fuser:
    """Decides the groups of one block, consumers first."""

    def __init__(self, block: Block):
        self.groups: dict[Operation, Group] = {}
        for op in reversed(list(block.ops)):
            if is_outside(op):
                continue
            group = self._group_of_users(op)
            if group is None or group.reads_of(op) > MOST_READS or not joins(op, group):
                group = Group(op)
            group.add(op)
            self.groups[op] = group

    def _group_of_users(self, op: Operation) -> Group | None:
        """The one group that all uses of the op are in, if there is one."""
        found: Group | None = None
        for result in op.results:
            for use in result.uses:
                group = self.groups.get(use.operation)
                if group is None or (found is not None and group is not found):
                    return None
                found = group
        return found


def is_scalar_constant(op: Operation) -> bool:
    """Whether the op is a constant that kernels write into their code."""
    return isinstance(op, ConstantOp) and len(op.value.data.data) <= 16 and _is_single(op)


def _is_single(op: ConstantOp) -> bool:
    return all(dim == 1 for dim in dims_of(op.y))


def joins(op: Operation, group: Group) -> bool:
    """Whether `op`, all of whose uses are in `group`, becomes part of it."""
    if len(group.ops) >= MOST_OPS or is_whole_kernel(op) or is_whole_kernel(group.root):
        return False
    if is_leaf(op):
        return group.template is None
    if is_template_root(op):
        return group.template is None and _is_epilogue(op, group)
    if group.template is not None:
        return is_row_template(group.template) and _is_prologue(op, group)
    if isinstance(op, Elementwise):
        elementwise = all(isinstance(other, Elementwise) for other in group.ops)
        if not elementwise and follows_template(op):
            return False  # it is computed where the template stores its result
        if narrows(op) and any(isinstance(use.operation, Movement) for use in op.results[0].uses):
            return False  # in order it is computed in vectors, and its bytes move cheaply
        return not _is_recomputed(op, group)
    if isinstance(op, Movement):
        return len(op.operands) <= MOST_SOURCES and not _has_reduce(group)
    return isinstance(op, Reduce) and (_is_row_statistic(op, group) or _is_finished(op, group))


def narrows(op: Operation) -> bool:
    """Whether the op makes bytes of wider elements, as quantisation does at its end."""
    if not isinstance(op, CastOp):
        return False
    source, result = (dtype_of(element_type(value)).bytes for value in (op.x, op.y))
    return result == 1 < source


def follows_template(op: Operation) -> bool:
    """Whether the op can be in the epilogue of a template before it."""
    dims = dims_of(op.results[0])
    for operand in op.operands:
        if not isinstance(operand, OpResult) or not operand.has_one_use():
            continue
        if dims_of(operand) != dims:
            continue
        source = operand.op
        if is_template_root(source) or (
            isinstance(source, Elementwise) and follows_template(source)
        ):
            return True
    return False


def _is_epilogue(op: Operation, group: Group) -> bool:
    """Whether the group is element-wise over the op's result, element for element."""
    own = op.results[0]
    return len(op.results) == 1 and all(
        isinstance(other, Elementwise)
        and dims_of(other.results[0]) == dims_of(own)
        and (other.results[0].type == own.type or not is_row_template(op))
        for other in group.ops
    )


def _is_prologue(op: Operation, group: Group) -> bool:
    """Whether the group's template over rows can make its operand of the op's, where it loads.

    It loads one operand that has the operand's type, so that everything before does too.
    """
    if not isinstance(op, Elementwise) or follows_template(op):
        return False
    root = group.template
    assert root is not None
    before = group.ops[group.ops.index(root) + 1 :]
    own = op.results[0]
    for use in own.uses:
        is_row = use.operation is root and use.index == 0
        if not is_row and use.operation not in before:
            return False
    row = root.operands[0].type
    return own.type == row and any(operand.type == row for operand in op.operands)


def _is_recomputed(op: Operation, group: Group) -> bool:
    """Whether the group would compute an element of `op` several times at some cost."""
    users = [u.operation for r in op.results for u in r.uses]
    if any(isinstance(user, Movement) for user in users):
        return False
    dims = dims_of(op.results[0])
    if not dims or dims[-1] == 1:
        return False  # it does not vary along the innermost axis, so it is computed outside
    own = _size(op.results[0])
    return any(_size(user.results[0]) != own for user in users if not isinstance(user, Reduce))


def _size(value: SSAValue) -> tuple[object, ...]:
    return tuple(dim for dim in dims_of(value) if dim != 1)


def _has_reduce(group: Group) -> bool:
    return any(isinstance(op, Reduce) for op in group.ops)


def _is_finished(op: Reduce, group: Group) -> bool:
    """Whether the group is element-wise over the op's result, each element of which it reads once.

    More than one user would fold the elements again at each of their places.
    """
    dims = dims_of(op.y)
    return len(list(op.y.uses)) == 1 and all(
        isinstance(other, Elementwise) and dims_of(other.results[0]) == dims for other in group.ops
    )


def _is_row_statistic(op: Reduce, group: Group) -> bool:
    """Whether it folds the innermost axis only, keeps it as 1, and is used along that axis."""
    last = rank_of(op.x) - 1
    if op.axis_list() != (last,) or rank_of(op.y) != last + 1:
        return False
    root = dims_of(group.root.results[0])
    own = dims_of(op.x)
    plain = all(isinstance(other, Elementwise | Reduce) for other in group.ops)
    return plain and (root == own or root[:-1] == own[:-1])


def outline(group: Group) -> None:
    """Move a group's ops into a `torsh.fused` before the root."""
    ops = list(reversed(group.ops))
    inside = set(ops)
    inputs: dict[SSAValue, None] = {}
    constants: dict[Operation, None] = {}
    for op in ops:
        for operand in op.operands:
            owner = operand.op if isinstance(operand, OpResult) else None
            if owner in inside:
                continue
            from_memory = op is group.template or is_whole_kernel(group.root)
            if owner is not None and is_scalar_constant(owner) and not from_memory:
                constants[owner] = None
            else:
                inputs[operand] = None
    block = Block(arg_types=[value.type for value in inputs])
    replaced: dict[SSAValue, SSAValue] = dict(zip(inputs, block.args, strict=True))
    for constant in constants:
        copy = constant.clone()
        block.add_op(copy)
        replaced[constant.results[0]] = copy.results[0]
    root = group.root
    before = InsertPoint.before(root)
    results = list(root.results)
    placeholder = FusedOp.create(
        operands=list(inputs),
        result_types=[r.type for r in results],
        regions=[Region(block)],
        location=root.location,
    )
    Rewriter.insert_op(placeholder, before)
    for old, new in zip(results, placeholder.results, strict=True):
        new.name_hint = old.name_hint
        old.replace_all_uses_with(new)
    for op in ops:
        op.detach()
        op.operands = [replaced.get(v, v) for v in op.operands]
        block.add_op(op)
    block.add_op(YieldOp.create(operands=results))


@dataclass(frozen=True)
class FusePass(ModulePass):
    """See the module docstring."""

    name = "fuse"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for function in op.ops:
            if isinstance(function, FuncOp):
                for region in function.regions:
                    fuse_region(region)


def separate_variables(op: LoopOp) -> None:
    """Copy loop variables that the body yields in another's place, so that none is overwritten."""
    last = op.body.block.last_op
    assert isinstance(last, YieldOp)
    variables = op.body.block.args[1:]
    for number, value in enumerate(last.operands[1 : 1 + len(op.carried)]):
        source = value
        while isinstance(source, OpResult) and is_view(source.op):
            source = source.op.operands[0]
        if source in variables and source is not variables[number]:
            copied = CastOp.make(value, to=element_type(value))
            Rewriter.insert_op(copied, InsertPoint.before(last))
            last.operands[1 + number] = copied.y


def copy_leaves(block: Block) -> None:
    """Give each elementwise user of an op without operands a copy of its own."""
    for op in list(block.ops):
        if not is_leaf(op):
            continue
        users = {use.operation: None for use in op.results[0].uses}
        for user in list(users)[1:]:
            if isinstance(user, Elementwise) and user.parent is block:
                copy = op.clone()
                Rewriter.insert_op(copy, InsertPoint.before(user))
                user.operands = [
                    copy.results[0] if v is op.results[0] else v for v in user.operands
                ]


def fuse_region(region: Region) -> None:
    """Fuse the blocks of a region, inner regions first."""
    for block in region.blocks:
        for op in list(block.ops):
            if isinstance(op, LoopOp):
                separate_variables(op)
            if not isinstance(op, FusedOp):
                for inner in op.regions:
                    fuse_region(inner)
        copy_leaves(block)
        groups = {id(g): g for g in Fuser(block).groups.values()}
        for group in groups.values():
            outline(group)
