"""Resident memory of a fresh process that loads a saved program, and failures of LLVM."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from robust_models import mlp, model_of, normal, succeed

import torsh_fx.compiler
from lowering.cpu.host import host_target
from torsh_dialect.errors import CodegenError
from torsh_fx.ahead import write_program
from torsh_fx.compiler import compile as compile_model

ALLOWANCE = 16 << 20
"""Bytes beyond weights, arena and scratch that loading may cost (issue: Memory)."""

WIDTH, LAYERS = 1600, 4


def large_model():
    """An MLP with 41 MB of weights; x: f32[n, 1600]."""
    nodes, arrays, name = [], {}, "x"
    for layer in range(LAYERS):
        arrays[f"w{layer}"] = normal(WIDTH, WIDTH, seed=layer)
        nodes.append(helper.make_node("MatMul", [name, f"w{layer}"], [f"h{layer}"]))
        name = "y" if layer == LAYERS - 1 else f"r{layer}"
        nodes.append(helper.make_node("Relu", [f"h{layer}"], [name]))
    return model_of(nodes, {"x": ["n", WIDTH]}, weights=arrays)


GROWTH = """
import json, math, sys
import numpy as np
from lowering.runtime.executable import Executable, RunOptions
from lowering.runtime.load import load_program
def status(name):
    with open("/proc/self/status") as file:
        return next(int(row.split()[1]) << 10 for row in file if row.startswith(name))
x = np.load(sys.argv[2])
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak starts anew (proc(5))
before = status("VmRSS")
program = load_program(sys.argv[1])
run = Executable(program, options=RunOptions(threads=1))
y = run.run([x])[0]
peak = status("VmHWM")
record = run.new_context().record((x.shape,))
weights = sum(math.prod(w.dims) * 4 for w in program.spec.weights)
np.save(sys.argv[3], y)
print(json.dumps({"growth": peak - before, "weights": weights, "need": record.need}))
"""


def test_loading_a_program_takes_its_weights_arena_and_little_more(tmp_path: Path):
    model = large_model()
    x = normal(8, WIDTH)
    write_program(compile_model(model), tmp_path / "program", host_target())
    np.save(tmp_path / "x.npy", x)
    found = json.loads(succeed(GROWTH, *(tmp_path / n for n in ("program", "x.npy", "y.npy"))))
    raw = LAYERS * WIDTH * WIDTH * 4
    assert raw <= found["weights"] < 1.1 * raw
    assert found["growth"] > raw // 2, "the measurement misses the weights"
    assert found["growth"] <= found["weights"] + found["need"] + ALLOWANCE, found
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    np.testing.assert_allclose(
        np.load(tmp_path / "y.npy"), session.run(None, {"x": x})[0], atol=1e-5
    )


BROKEN = {
    "not LLVM IR": ("rubbish", "expected top-level entity"),
    "a value of another type": ("define i64 @f() {\n ret i32 1\n}", "function result type"),
    "an instruction that LLVM stops at": (
        'define void @f() {\n call void asm "bogus_insn", ""()\n ret void\n}\n',
        "bogus_insn",
    ),
    "an intrinsic of another processor": (
        "declare i32 @llvm.nvvm.barrier0.popc(i32)\ndefine i32 @f() {\n"
        " %x = call i32 @llvm.nvvm.barrier0.popc(i32 3)\n ret i32 %x\n}\n",
        "crashed",
    ),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_kernels_that_llvm_cannot_take_are_errors(case: str, monkeypatch: pytest.MonkeyPatch):
    text, says = BROKEN[case]
    lower = torsh_fx.compiler.lower_module

    def broken(*args):
        main, prepare = lower(*args)
        units = [replace(main.units[0], text=text), *main.units[1:]]
        return replace(main, units=units), prepare

    with monkeypatch.context() as patch:
        patch.setattr(torsh_fx.compiler, "lower_module", broken)
        with pytest.raises(CodegenError, match=says):
            compile_model(mlp(), cache=False)
    assert compile_model(mlp(), cache=False).run([normal(2, 8)])[0].shape == (2, 8)
