"""Passes over graphs: `Pass`, `PassManager`, and the two that come with it."""

from __future__ import annotations

import abc
import time
from collections.abc import Callable
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from torsh_dialect.context import Context
from torsh_dialect.driver import erase_dead
from torsh_dialect.errors import PassError, TorshError
from torsh_fx.graph.fuse import fuse_operations
from torsh_fx.graph.graph import FxGraph


class Pass(abc.ABC):
    """A change of a graph; subclass it and give `apply` and `name`."""

    @abc.abstractmethod
    def apply(self, graph: FxGraph) -> None:
        """Change the graph in place.

        Raises:
            TorshError: The pass cannot do its work; `PassManager.run` stops.
        """

    @abc.abstractmethod
    def name(self) -> str:
        """The pass's name, unique in a manager."""

    def dependencies(self) -> list[str]:
        """Names of passes that must run before this one."""
        return []


class DialectPass(Pass):
    """An xDSL pass over the graph's module.

    Args:
        module_pass: E.g. `CanonicalizePass()`.
        context: What the pass needs beside the module; a fresh one by default.
    """

    def __init__(self, module_pass: ModulePass, context: Context | None = None):
        self.module_pass = module_pass
        self.context = context

    def apply(self, graph: FxGraph) -> None:
        context = self.context or Context(weights=graph.weights)
        self.module_pass.apply(context, graph.module)

    def name(self) -> str:
        return self.module_pass.name


class GraphPass(ModulePass):
    """A pass over graphs as an xDSL pass.

    Args:
        graph_pass: What is applied.
    """

    def __init__(self, graph_pass: Pass):
        super().__init__()
        self.graph_pass = graph_pass

    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.graph_pass.name()

    def apply(self, ctx: object, op: ModuleOp) -> None:
        weights = ctx.weights if isinstance(ctx, Context) else None
        self.graph_pass.apply(FxGraph(op, weights))


class DeadCodeEliminationPass(Pass):
    """Remove nodes that nothing observable needs, in branches and loops too.

    Inputs, outputs and calls of operations that nobody knows stay.
    """

    def apply(self, graph: FxGraph) -> None:
        erase_dead(graph.module)

    def name(self) -> str:
        return "dead_code_elimination"


class OperationFusionPass(Pass):
    """Group a product or convolution with what follows it alone, and chains of element-wise nodes.

    A node joins the one before it if it is that node's only user: batch normalisation behind a
    product or convolution, then element-wise operations. A group becomes one node `fused` with
    the last one's name; its values are unchanged.
    """

    def apply(self, graph: FxGraph) -> None:
        fuse_operations(graph.module, graph.moved)

    def name(self) -> str:
        return "operation_fusion"


@dataclass(frozen=True)
class PassRun:
    """What a pass of a run did.

    Attributes:
        name: The pass.
        seconds: Wall time.
        changed: Whether the module's text changed.
    """

    name: str
    seconds: float
    changed: bool


class PassManager:
    """Runs passes in the order in which they were added.

    A pass that names another one in `dependencies` runs behind it; otherwise the order stays.
    """

    def __init__(self) -> None:
        self._passes: list[Pass] = []

    def add_pass(self, one: Pass) -> None:
        """Add a pass.

        Raises:
            PassError: A pass of that name is there already.
        """
        if any(known.name() == one.name() for known in self._passes):
            raise PassError(f"the pass {one.name()!r} was added already")
        self._passes.append(one)

    def order(self) -> list[Pass]:
        """The passes in the order in which they run.

        Raises:
            PassError: A dependency was not added, or passes depend on each other.
        """
        names = {one.name() for one in self._passes}
        for one in self._passes:
            if missing := [name for name in one.dependencies() if name not in names]:
                raise PassError(f"{one.name()} needs the passes {', '.join(missing)}; add them")
        waiting, done, ordered = list(self._passes), set[str](), list[Pass]()
        while waiting:
            ready = next((p for p in waiting if set(p.dependencies()) <= done), None)
            if ready is None:
                circle = ", ".join(p.name() for p in waiting)
                raise PassError(f"the passes {circle} depend on each other")
            waiting.remove(ready)
            done.add(ready.name())
            ordered.append(ready)
        return ordered

    def run(
        self, graph: FxGraph, observe: Callable[[PassRun, FxGraph], None] | None = None
    ) -> list[PassRun]:
        """Run all passes on `graph`, and verify it behind each.

        Args:
            graph: Is changed.
            observe: Called behind each pass, e.g. to print the graph.

        Returns:
            What each pass did, in order.

        Raises:
            PassError: A pass failed or left a module that breaks a rule; the later ones did not
                run.
        """
        done: list[PassRun] = []
        for one in self.order():
            before, start = graph.mlir(), time.perf_counter()
            try:
                one.apply(graph)
                seconds = time.perf_counter() - start
                graph.verify()
            except TorshError as error:
                raise PassError(f"the pass {one.name()}: {error}") from error
            done.append(PassRun(one.name(), seconds, graph.mlir() != before))
            if observe is not None:
                observe(done[-1], graph)
        return done
