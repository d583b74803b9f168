"""Ahead of time: a compiled model as a folder that runs without the compiler.

The folder has objects, prepared weights and the signature; `lowering.runtime.load.load_program`
links it with numpy alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lowering.codegen import host_unit
from lowering.program.build import lower_module
from lowering.runtime.load import save_program
from torsh_dialect.errors import ExecutionError
from torsh_fx.compiler import generator

if TYPE_CHECKING:
    from torsh_dialect.target import TargetInfo
    from torsh_fx.compiled import CompiledModule


def write_program(compiled: CompiledModule, folder: Path, target: TargetInfo) -> None:
    """Write a compiled model into a new folder.

    Args:
        compiled: The model; its prepared weights are written as they are.
        folder: A path where nothing is yet.
        target: The target that `compiled` was compiled for.

    Raises:
        ExecutionError: The weights of `compiled` are not prepared yet.
        OSError: The folder is there already, or cannot be written.
    """
    table = compiled.program.weights
    spec = compiled.program.spec
    if table is None:
        if spec.weights:
            raise ExecutionError("the weights are not prepared yet; call prepare() first")
        arrays = ()
    else:
        arrays = table.arrays
    main, _ = lower_module(compiled.optimised, target)
    host, *objects = generator(False, True).compile([host_unit(target), *main.units])
    weights = {one.name: array for one, array in zip(spec.weights, arrays, strict=True)}
    save_program(folder, main.spec, objects, weights, host)
