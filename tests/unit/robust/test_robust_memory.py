"""Resident memory of a fresh process that loads a saved program, and failures of LLVM."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from robust_models import mlp, model_of, normal, succeed

import torsh_fx.compilation
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


def large_convnet():
    """Six 3x3 convolutions of 320 channels, 22 MB, some as Winograd; x: f32[1, 320, 12, 12]."""
    nodes, arrays, name = [], {}, "x"
    for layer in range(6):
        arrays[f"w{layer}"] = normal(320, 320, 3, 3, seed=layer)
        strides = [2, 2] if layer == 3 else [1, 1]
        nodes.append(
            helper.make_node(
                "Conv", [name, f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1], strides=strides
            )
        )
        name = "y" if layer == 5 else f"r{layer}"
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [name]))
    return model_of(nodes, {"x": [1, 320, 12, 12]}, weights=arrays)


def large_encoder():
    """Embedding of 15,000 words, then 6 blocks of a BERT's products; x: i64[n, 16], 62 MB."""
    make, width = helper.make_node, 512
    arrays = {"words": normal(15_000, width), "gain": np.ones(width, np.float32)}
    nodes, name = [make("Gather", ["words", "x"], ["h"])], "h"
    for k in range(6):
        sizes = {"q": width, "k": width, "v": width, "up": 2 * width}
        arrays |= {f"{n}{k}": normal(width, size, seed=k) for n, size in sizes.items()}
        arrays[f"down{k}"] = normal(2 * width, width, seed=k)
        nodes += [make("MatMul", [name, f"{n}{k}"], [f"{n}.{k}"]) for n in "qkv"]
        nodes += [
            make("Transpose", [f"k.{k}"], [f"t.{k}"], perm=[0, 2, 1]),
            make("MatMul", [f"q.{k}", f"t.{k}"], [f"s.{k}"]),
            make("Softmax", [f"s.{k}"], [f"p.{k}"], axis=-1),
            make("MatMul", [f"p.{k}", f"v.{k}"], [f"o.{k}"]),
            make("Add", [f"o.{k}", name], [f"z.{k}"]),
            make("LayerNormalization", [f"z.{k}", "gain"], [f"n.{k}"], axis=-1),
            make("MatMul", [f"n.{k}", f"up{k}"], [f"u.{k}"]),
            make("Relu", [f"u.{k}"], [f"a.{k}"]),
            make("MatMul", [f"a.{k}", f"down{k}"], ["y" if k == 5 else f"d.{k}"]),
        ]
        name = f"d.{k}"
    kinds = {"x": TensorProto.INT64}
    return model_of(nodes, {"x": ["n", 16]}, weights=arrays, dtypes=kinds)


MODELS = {
    "mlp": (large_model, lambda: normal(8, WIDTH)),
    "convnet": (large_convnet, lambda: normal(1, 320, 12, 12)),
    "encoder": (large_encoder, lambda: np.arange(32).reshape(2, 16)),
}

GROWTH = """
import json, sys
import numpy as np
import torsh_fx
from lowering.runtime.executable import Executable, RunOptions
from lowering.runtime.load import load_program
def status(name):
    with open("/proc/self/status") as file:
        return next(int(row.split()[1]) << 10 for row in file if row.startswith(name))
path, x = sys.argv[1], np.load(sys.argv[2])
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak starts anew (proc(5))
before = status("VmRSS")
if path.endswith("program"):
    run = Executable(load_program(path), options=RunOptions(threads=1))
else:
    run = torsh_fx.load(path, threads=1).executable
    assert "xdsl" not in sys.modules
y = run.run([x])[0]
peak = status("VmHWM")
record = run.new_context().record((x.shape,))
weights = sum(array.nbytes for array in run.program.weights.arrays)
np.save(sys.argv[3], y)
print(json.dumps({"growth": peak - before, "weights": weights, "need": record.need}))
"""


@pytest.fixture(scope="module", params=list(MODELS))
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A folder with one model, saved in three ways, an input, and what onnxruntime makes of it.

    The text was loaded once: then its program is in the cache, and the compiler is not needed.
    """
    make, sample = MODELS[request.param]
    folder, model, x = tmp_path_factory.mktemp(request.param), make(), sample()
    compiled = compile_model(model)
    write_program(compiled, folder / "program", host_target())
    compiled.save(folder / "m.torshpkg")
    compiled.save(folder / "m.mlir")
    succeed("import sys, torsh_fx; torsh_fx.load(sys.argv[1])", folder / "m.mlir")
    np.save(folder / "x.npy", x)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    np.save(folder / "expected.npy", session.run(None, {"x": x})[0])
    return folder


@pytest.mark.parametrize("name", ["program", "m.torshpkg", "m.mlir"])
def test_loading_takes_the_prepared_weights_arena_and_little_more(saved: Path, name: str):
    found = json.loads(succeed(GROWTH, saved / name, saved / "x.npy", saved / "y.npy"))
    raw = (saved / "m.safetensors").stat().st_size
    assert found["weights"] > 0.95 * raw
    assert found["growth"] > raw // 4, "the measurement misses the weights"
    assert found["growth"] <= found["weights"] + found["need"] + ALLOWANCE, found
    np.testing.assert_allclose(
        np.load(saved / "y.npy"), np.load(saved / "expected.npy"), rtol=1e-4, atol=1e-4
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
    lower = torsh_fx.compilation.lower_module

    def broken(*args):
        main, prepare = lower(*args)
        units = [replace(main.units[0], text=text), *main.units[1:]]
        return replace(main, units=units), prepare

    with monkeypatch.context() as patch:
        patch.setattr(torsh_fx.compilation, "lower_module", broken)
        with pytest.raises(CodegenError, match=says):
            compile_model(mlp(), cache=False)
    assert compile_model(mlp(), cache=False).run([normal(2, 8)])[0].shape == (2, 8)
