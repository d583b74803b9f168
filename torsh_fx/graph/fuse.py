"""Grouping nodes into `torsh.fused` regions, and taking such groups apart again."""

from __future__ import annotations

from collections.abc import Callable

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, Operation, Region, SSAValue

from torsh_dialect.kinds import Elementwise
from torsh_dialect.operations import VOCABULARY
from torsh_dialect.ops.call import CallOp
from torsh_dialect.ops.contract import LinearOp, MatMulOp
from torsh_dialect.ops.control import YieldOp
from torsh_dialect.ops.conv import ConvOp
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.ops.norm import BatchNormOp
from torsh_dialect.vocabulary import NAME

ROOTS = ("linear", "matmul", "conv1d", "conv2d", "conv3d")
"""Operations that may begin a group, beside element-wise ones."""

ELEMENTWISE = (
    *("abs", "add", "div", "elu", "equal", "exp", "gelu", "greater", "greater_equal"),
    *("leaky_relu", "less", "less_equal", "log", "mul", "neg", "not_equal", "relu", "sigmoid"),
    *("silu", "sqrt", "square", "sub", "tanh"),
)
"""Operations of calls whose types are not known yet that are element-wise."""


def _is_root(op: Operation) -> bool:
    if isinstance(op, CallOp):
        return op.operation.data in ROOTS
    return isinstance(op, LinearOp | MatMulOp | ConvOp)


def _is_elementwise(op: Operation) -> bool:
    if isinstance(op, CallOp):
        known = VOCABULARY.find(op.operation.data)
        return known is not None and op.operation.data in ELEMENTWISE
    return isinstance(op, Elementwise)


def _is_batch_norm(op: Operation) -> bool:
    if isinstance(op, CallOp):
        return op.operation.data == "batch_norm"
    return isinstance(op, BatchNormOp)


Moved = Callable[[Operation, Operation], None]


def fuse_operations(module: ModuleOp, moved: Moved = lambda old, new: None) -> int:
    """Group ops as `OperationFusionPass` says; returns the number of groups.

    Args:
        module: Is changed.
        moved: Is told the last op of each group and the group's op.
    """
    count = 0
    for function in module.ops:
        if isinstance(function, FuncOp):
            count += _fuse_block(function.body.block, moved)
    return count


def _fuse_block(block: Block, moved: Moved) -> int:
    count, taken = 0, set[Operation]()
    for op in list(block.ops):
        if op in taken:
            continue
        if op.regions and not isinstance(op, FusedOp):
            count += sum(_fuse_block(region.block, moved) for region in op.regions)
        if not _is_root(op) and not _is_elementwise(op):
            continue
        group = _group(op, block)
        if len(group) > 1:
            taken.update(group)
            moved(group[-1], _fuse(group, block))
            count += 1
    return count


def _group(root: Operation, block: Block) -> list[Operation]:
    group = [root]
    while len(group[-1].results) == 1 and group[-1].results[0].has_one_use():
        (use,) = group[-1].results[0].uses
        user = use.operation
        first = len(group) == 1 and _is_root(root) and use.index == 0
        if user.parent is not block or not (
            _is_elementwise(user) or (first and _is_batch_norm(user))
        ):
            break
        group.append(user)
    return group


def _fuse(group: list[Operation], block: Block) -> FusedOp:
    last = group[-1]
    inner = {result for op in group for result in op.results}
    outer = list(dict.fromkeys(v for op in group for v in op.operands if v not in inner))
    body = Block(arg_types=[value.type for value in outer])
    mapping: dict[SSAValue, SSAValue] = dict(zip(outer, body.args, strict=True))
    for op in group:
        body.add_op(op.clone(mapping))
    body.add_op(YieldOp.create(operands=[mapping[r] for r in last.results]))
    fused = FusedOp.create(
        operands=outer,
        result_types=[r.type for r in last.results],
        regions=[Region(body)],
        location=last.location,
    )
    if NAME in last.attributes:
        fused.attributes[NAME] = last.attributes[NAME]
    block.insert_op_before(fused, last)
    for old, new in zip(last.results, fused.results, strict=True):
        old.replace_all_uses_with(new)
    for op in reversed(group):
        op.detach()
        op.erase()
    return fused


def unfuse(module: ModuleOp) -> None:
    """Put the ops of all `torsh.fused` regions in the place of their op."""
    for op in [o for o in module.walk() if isinstance(o, FusedOp)]:
        block = op.parent
        assert block is not None
        mapping: dict[SSAValue, SSAValue] = dict(zip(op.body.block.args, op.operands, strict=True))
        values: list[SSAValue] = []
        for inner in list(op.body.block.ops):
            if isinstance(inner, YieldOp):
                values = [mapping[v] for v in inner.operands]
            else:
                block.insert_op_before(inner.clone(mapping), op)
        for old, new in zip(op.results, values, strict=True):
            old.replace_all_uses_with(new)
        op.detach()
        op.erase()
