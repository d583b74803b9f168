"""The compiler as the conformance runners see it: models are compiled, the native entry runs them.

Every entry point compiles and runs under `guards.py`: neither another runtime nor a torch kernel
nor a numpy reference of ours can have computed a result.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from guards import Guards, no_imports  # noqa: E402

from torsh_fx.compiler import compile as compile_model  # noqa: E402

GUARDS = Guards()


def prepare(model: Any) -> Callable[[list[Any]], list[Any]]:
    """Compile an ONNX model; the result takes and gives lists of arrays."""
    GUARDS.install()
    with GUARDS.compiling():
        compiled = compile_model(model, threads=1)

    def run(inputs: list[Any]) -> list[Any]:
        return compiled.run([_array(value) for value in inputs])

    return GUARDS.guarded(run)


def compile_torch(program: Any) -> Callable[..., Any]:
    """Compile an ExportedProgram; the result takes tensors and gives its structure."""
    GUARDS.install()
    with GUARDS.compiling():
        compiled = compile_model(program, threads=1)
    return GUARDS.guarded(compiled)


def _array(value: Any) -> Any:
    """Arrays of tensors; sequences and missing optional values stay as they are."""
    return value if value is None or isinstance(value, list) else np.asarray(value)


def dynamo_backend(module: Any, example_inputs: Any) -> Callable[..., Any]:
    """The backend of `torch.compile`, under the guards.

    Its first call traces and compiles; torch folds constants while it traces, as it does when a
    program is exported. The guards of a run hold from the second call on, whose outputs count.
    """
    from torsh_fx.backend import torsh

    GUARDS.install()
    graph = torsh(module, example_inputs)
    calls = 0

    def call(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        with no_imports() if calls == 1 else GUARDS.running():
            return graph(*args)

    return call
