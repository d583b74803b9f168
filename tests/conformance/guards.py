"""What a conformance case may not use: other runtimes, torch kernels, our own reference code.

A case counts only if the native entry computes it. While a case is compiled and run, the ONNX
reference evaluator, onnxruntime and torch kernels on real data raise `BlockedError`; while it runs,
so do the numpy references of our ops (compiling may fold constants with them). Ops on strings,
sequences and optional values are host functions, and pass; `hosted` counts their calls.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

HANDLING = frozenset(
    {
        "alias", "as_strided", "clone", "contiguous", "copy_", "detach", "empty", "empty_like",
        "expand", "lift", "lift_fresh", "lift_fresh_copy", "permute", "resolve_conj",
        "resolve_neg", "select", "set_", "slice", "_conj", "_conj_physical", "_local_scalar_dense",
        "_neg_view", "_to_copy", "_unsafe_view", "view", "view_as_real", "view_as_complex",
    }
)  # fmt: skip
"""Aten ops that hand tensors over (views, copies), and compute nothing."""

OTHER_RUNTIMES = ("onnxruntime", "onnx.reference", "torch_mlir", "iree", "openvino", "tensorflow")


class BlockedError(BaseException):
    """A case used what it may not use. Not an `Exception`, so that the compiler cannot catch it."""


class CheatingError(Exception):
    """The same as an error of the case, which runners count against the compiler."""


@dataclass
class Gate:
    """Functions that raise `BlockedError` while the gate is closed.

    Attributes:
        closed: Whether it is.
        exempt: Tells the objects whose methods pass nevertheless.
        hosted: How often such a method passed.
    """

    closed: bool = False
    exempt: Callable[[Any], bool] = lambda owner: False
    hosted: int = 0
    wrapped: set[tuple[type, str]] = field(default_factory=set[tuple[type, str]])

    def guard(self, owner: type, name: str) -> None:
        """Let `owner.name` pass only while the gate is open."""
        if (owner, name) in self.wrapped or name not in vars(owner):
            return
        self.wrapped.add((owner, name))
        real = getattr(owner, name)

        def checked(*args: Any, **kwargs: Any) -> Any:
            if self.closed and self.exempt(args[0]):
                self.hosted += 1
            elif self.closed:
                raise BlockedError(f"{owner.__module__}.{owner.__qualname__}.{name} was called")
            return real(*args, **kwargs)

        setattr(owner, name, checked)

    @contextmanager
    def close(self) -> Iterator[None]:
        """Close the gate for the `with` body."""
        before, self.closed = self.closed, True
        try:
            yield
        finally:
            self.closed = before


class _NoImport:
    """Import hook that refuses to load other runtimes."""

    def find_spec(self, name: str, *_: object) -> None:
        if name in OTHER_RUNTIMES or name.startswith(tuple(f"{one}." for one in OTHER_RUNTIMES)):
            raise BlockedError(f"{name} was imported")


@contextmanager
def no_imports() -> Iterator[None]:
    """Refuse imports of other runtimes in the `with` body."""
    hook: Any = _NoImport()
    sys.meta_path.insert(0, hook)
    try:
        yield
    finally:
        sys.meta_path.remove(hook)


def no_torch_kernels() -> Any:
    """Context in which torch computes nothing on real data, where torch is loaded at all."""
    if "torch" not in sys.modules:
        return ExitStack()
    import torch
    from torch._subclasses.fake_tensor import FakeTensor
    from torch._subclasses.functional_tensor import FunctionalTensor
    from torch.utils import _pytree as pytree
    from torch.utils._python_dispatch import TorchDispatchMode

    def has_data(x: Any) -> bool:
        while isinstance(x, FunctionalTensor):
            x = torch._from_functional_tensor(x.elem)
        return not isinstance(x, FakeTensor) and x.device.type != "meta"

    class NoKernels(TorchDispatchMode):
        supports_higher_order_operators = True

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            kwargs = kwargs or {}
            name = func.__name__.partition(".")[0]
            tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
            if name not in HANDLING and any(map(has_data, tensors)):
                raise BlockedError(f"the torch kernel {func} was called")
            return func(*args, **kwargs)

    return NoKernels()


@dataclass
class Guards:
    """The guards of one process; `compiling()` and `running()` are contexts."""

    references: Gate = field(default_factory=Gate)
    runtimes: Gate = field(default_factory=Gate)

    def install(self) -> None:
        """Put gates before the references of all ops and before the ONNX reference evaluator."""
        from torsh_dialect.context import Context
        from torsh_dialect.declare import OPS
        from torsh_fx.hosted import is_host_op

        Context()
        self.references.exempt = is_host_op
        for cls in {base for op in OPS for base in op.__mro__}:
            self.references.guard(cls, "evaluate")
        if "onnx.reference" in sys.modules:
            from onnx.reference import ReferenceEvaluator
            from onnx.reference.op_run import OpRun

            self.runtimes.guard(ReferenceEvaluator, "run")
            self.runtimes.guard(OpRun, "run")
        if "onnxruntime" in sys.modules:
            raise BlockedError("onnxruntime is loaded in the process of the compiler under test")

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """While a model is compiled.

        Raises:
            CheatingError: The body used what it may not use.
        """
        try:
            with no_imports(), no_torch_kernels(), self.runtimes.close():
                yield
        except BlockedError as error:
            raise CheatingError(str(error)) from error

    @contextmanager
    def running(self) -> Iterator[None]:
        """While a compiled model runs."""
        with self.compiling(), self.references.close():
            yield

    def guarded(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """`run` with the guards of a run."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.running():
                return run(*args, **kwargs)

        return call
