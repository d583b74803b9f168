"""Hermetic code: what a package may import, and a jail to run it in. Loading runs nothing."""

from .capabilities import Capabilities, probe
from .capture import Capture, collect
from .globs import ModuleGlob
from .imports import scan_imports
from .policy import Action, CodePolicy
from .sandbox import Call, Mode, Sandbox, SandboxOptions, SandboxResult, run
from .table import CodeTable, add_code, add_module, code_table, sources_of

__all__ = [
    "Action",
    "Call",
    "Capabilities",
    "Capture",
    "CodePolicy",
    "CodeTable",
    "Mode",
    "ModuleGlob",
    "Sandbox",
    "SandboxOptions",
    "SandboxResult",
    "add_code",
    "add_module",
    "code_table",
    "collect",
    "probe",
    "run",
    "scan_imports",
    "sources_of",
]
