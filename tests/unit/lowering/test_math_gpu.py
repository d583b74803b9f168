"""The same text is accepted by LLVM's NVPTX back end, scalar by scalar, without any library."""

import re

import llvmlite.binding as llvm
import pytest

from lowering.cpu.text import Module
from lowering.math.convert import FORMATS, decode, encode
from lowering.math.functions import FUNCTIONS, call
from lowering.math.map import emit_map

TRIPLE = "nvptx64-nvidia-cuda"


def ptx_of(module: Module) -> str:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(TRIPLE).create_target_machine(
        cpu="sm_80", features="+ptx75", opt=3
    )
    parsed = llvm.parse_assembly(module.text())
    parsed.triple, parsed.data_layout = TRIPLE, str(machine.target_data)
    return machine.emit_assembly(parsed)


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_functions_become_ptx_without_calls(kind: str) -> None:
    module = Module()
    for name, function in FUNCTIONS.items():
        if kind == "f64" or function.native:
            formula = lambda *x, n=name: call(n, *x)  # noqa: E731
            emit_map(module, name, formula, [kind] * function.arity, kind, 1)  # type: ignore[arg-type, list-item]
    ptx = ptx_of(module)
    assert not re.findall(r"\.extern|\bcall\b", ptx)
    assert ptx.count(".visible .func") == len(module.functions)


def test_conversions_become_ptx_without_calls() -> None:
    module = Module()
    for name, format in FORMATS.items():
        emit_map(module, f"decode_{name}", lambda c, f=format: decode(c, f), ["i32"], "f32", 1)
        emit_map(module, f"encode_{name}", lambda x, f=format: encode(x, f), ["f32"], "i32", 1)
    assert not re.findall(r"\.extern|\bcall\b", ptx_of(module))
