"""`torsh_fx.load`: a saved model as a callable, whatever it was saved as."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torsh_fx.compiled import CompiledModule
    from torsh_fx.packaged import PackagedModel

PACKAGE = ".torshpkg"
"""What the names of packages end in."""


def load(path: str | Path, **options: Any) -> CompiledModule | PackagedModel:
    """Load a model that `CompiledModule.save` or `torsh compile` wrote.

    Args:
        path: A `.torshpkg` file, whose machine code is linked without the compiler, or a `.mlir`
            file, which is compiled again.
        options: For a package those of `load_package`, otherwise those of `compile`.

    Raises:
        ImportModelError: A file is missing, damaged, or of a newer format.
        PackageError: The package is damaged, encrypted or not trusted.
        ExecutionError: The package has no code for this machine.
    """
    path = Path(path)
    if path.suffix == PACKAGE:
        from torsh_fx.packaged import load_package

        return load_package(path, **options)
    from torsh_fx.compiler import compile

    return compile(path, **options)
