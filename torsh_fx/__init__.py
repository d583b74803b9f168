"""ToRSh FX: models in, typed graphs and native code out.

    import torsh_fx

    f = torsh_fx.compile(module, (x,))       # or "model.onnx", a ModelProto, an FxGraph
    y = f(x)

Names are imported when they are first used, so `import torsh_fx` loads no framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torsh_dialect.settings import Settings
    from torsh_fx.compiled import CompiledModule
    from torsh_fx.compiler import compile
    from torsh_fx.errors import TorshError, UnsupportedFormat, ValidationError
    from torsh_fx.frontends import from_model, from_pytorch
    from torsh_fx.graph.graph import FxGraph
    from torsh_fx.graph.node import Node
    from torsh_fx.graph.passes import (
        DeadCodeEliminationPass,
        DialectPass,
        OperationFusionPass,
        Pass,
        PassManager,
    )
    from torsh_fx.graph.split import OperatorSupport, split_graph
    from torsh_fx.graph.tracer import ModuleTracer
    from torsh_fx.graph.typecheck import TypeChecker, TypeError
    from torsh_fx.loading import load
    from torsh_fx.onnx_importer import OnnxImporter, OnnxOperationMapper

_MODULES = {
    "torsh_fx.compiled": ("CompiledModule",),
    "torsh_fx.compiler": ("compile",),
    "torsh_dialect.settings": ("Settings",),
    "torsh_fx.errors": ("TorshError", "UnsupportedFormat", "ValidationError"),
    "torsh_fx.frontends": ("from_model", "from_pytorch"),
    "torsh_fx.graph.graph": ("FxGraph",),
    "torsh_fx.graph.node": ("Node",),
    "torsh_fx.graph.passes": (
        "DeadCodeEliminationPass",
        "DialectPass",
        "OperationFusionPass",
        "Pass",
        "PassManager",
    ),
    "torsh_fx.graph.split": ("OperatorSupport", "split_graph"),
    "torsh_fx.graph.tracer": ("ModuleTracer",),
    "torsh_fx.graph.typecheck": ("TypeChecker", "TypeError"),
    "torsh_fx.onnx_importer": ("OnnxImporter", "OnnxOperationMapper"),
    "torsh_fx.loading": ("load",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "CompiledModule",
    "DeadCodeEliminationPass",
    "DialectPass",
    "FxGraph",
    "ModuleTracer",
    "Node",
    "OnnxImporter",
    "OnnxOperationMapper",
    "OperationFusionPass",
    "OperatorSupport",
    "Pass",
    "PassManager",
    "Settings",
    "TorshError",
    "TypeChecker",
    "TypeError",
    "UnsupportedFormat",
    "ValidationError",
    "compile",
    "from_model",
    "from_pytorch",
    "load",
    "split_graph",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
