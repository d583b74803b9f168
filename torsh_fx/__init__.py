"""The compiler as Python users see it. Names are loaded when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torsh_dialect.context import Settings
    from torsh_dialect.errors import TorshError
    from torsh_fx.compiled import CompiledModule
    from torsh_fx.compiler import compile
    from torsh_fx.save import load

_WHERE = {
    "CompiledModule": "torsh_fx.compiled",
    "Settings": "torsh_dialect.context",
    "TorshError": "torsh_dialect.errors",
    "compile": "torsh_fx.compiler",
    "load": "torsh_fx.save",
}
"""Public names and the modules they are in."""

__all__ = ["CompiledModule", "Settings", "TorshError", "compile", "load"]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
