"""Run compiled programs: signatures, linking, threads, memory. Needs numpy alone on x86-64."""

from lowering.runtime.executable import BoundCall, Executable, Program, RunOptions
from lowering.runtime.load import ProgramParts, load_program, read_parts, save_program
from lowering.runtime.profile import Profile
from lowering.runtime.spec import (
    CheckSpec,
    EntrySpec,
    KernelSpec,
    ProgramSpec,
    SymbolSpec,
    TensorSpec,
    WeightSpec,
)
from lowering.runtime.threads import ThreadLimit, thread_limit

__all__ = [
    "BoundCall",
    "CheckSpec",
    "EntrySpec",
    "Executable",
    "KernelSpec",
    "Profile",
    "Program",
    "ProgramParts",
    "ProgramSpec",
    "RunOptions",
    "SymbolSpec",
    "TensorSpec",
    "ThreadLimit",
    "WeightSpec",
    "load_program",
    "read_parts",
    "save_program",
    "thread_limit",
]
