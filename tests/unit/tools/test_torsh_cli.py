"""`torsh`: its verbs in this process, on small ONNX models, with onnxruntime as the oracle."""

import json
import re
import sys
import xml.etree.ElementTree as ET
from collections import Counter

import numpy as np
import onnxruntime
import pytest

from lowering.runtime.executable import Executable
from lowering.runtime.load import load_program
from lowering.runtime.spec import EntrySpec, SymbolSpec, TensorSpec
from tools.tables import markdown_table, size_text, table, time_text
from tools.torsh import VERBS
from tools.torsh_verbs.bench import PairedTimes, measure
from tools.torsh_verbs.inputs import random_inputs
from tools.torsh_verbs.values import difference


def reference(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def test_run_writes_what_onnxruntime_gives(torsh, mlp, tmp_path):
    x = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    out = tmp_path / "out.npz"
    code, printed, _ = torsh("run", mlp, "--input", f"x={tmp_path / 'x.npy'}", "-o", out)
    assert (code, printed) == (0, "")
    with np.load(out) as arrays:
        assert arrays.files == ["y"]
        np.testing.assert_allclose(arrays["y"], reference(mlp, x), atol=1e-5)


@pytest.mark.parametrize("file", ["in.npz", "in.npy"])
def test_run_takes_all_inputs_from_a_file(torsh, mlp, tmp_path, file):
    x = np.ones((2, 8), np.float32)
    np.savez(tmp_path / "in.npz", x=x)
    np.save(tmp_path / "in.npy", x)
    code, _, _ = torsh("run", mlp, "--inputs", tmp_path / file, "-o", tmp_path / "out.npz")
    assert code == 0
    with np.load(tmp_path / "out.npz") as arrays:
        np.testing.assert_allclose(arrays["y"], reference(mlp, x), atol=1e-5)


@pytest.mark.parametrize("engine", ["onnxruntime", "reference"])
def test_compare_agrees(torsh, mlp, engine):
    code, out, _ = torsh("run", mlp, "--compare", engine, "--size", "n=7", "--quiet")
    assert code == 0
    assert f"agrees with {engine}" in out


def test_compare_sees_a_difference(torsh, mlp, monkeypatch):
    monkeypatch.setattr(
        "tools.torsh_verbs.peers.OnnxRuntime.__call__",
        lambda self, inputs: [reference(mlp, inputs[0]) + np.float32(0.01)],
    )
    code, out, _ = torsh("run", mlp, "--compare", "onnxruntime")
    assert code == 1
    assert "DIFFERENT" in out
    assert "differs from onnxruntime" in out


def test_validate_gives_a_verdict_in_words(torsh, mlp, monkeypatch):
    code, out, _ = torsh("run", mlp, "--validate", "16", "--quiet")
    assert code == 0
    assert out.startswith("PASS: ")
    monkeypatch.setattr("torsh_fx.validate.Validation.passed", False)
    code, out, _ = torsh("run", mlp, "--validate", "2", "--quiet")
    assert code == 1
    assert out.startswith("FAIL: ")


def test_models_that_the_host_walks_run_too(torsh, hosted):
    code, out, _ = torsh("run", hosted, "--compare", "onnxruntime", "--quiet")
    assert code == 0, out
    code, out, _ = torsh("inspect", hosted)
    assert code == 0
    assert "Exp" in out or "fused" in out
    code, _, err = torsh("run", hosted, "--profile")
    assert code == 1
    assert "natives" in err


def test_random_inputs_depend_on_the_seed_only(torsh, mlp, tmp_path):
    outputs = []
    for seed in (1, 1, 2):
        torsh("run", mlp, "--seed", seed, "-o", tmp_path / "out.npz")
        with np.load(tmp_path / "out.npz") as arrays:
            outputs.append(arrays["y"].tobytes())
    assert outputs[0] == outputs[1] != outputs[2]


def test_compile_to_text_and_run_it(torsh, mlp, tmp_path):
    assert torsh("compile", mlp, "-o", tmp_path / "m.mlir")[0] == 0
    assert (tmp_path / "m.safetensors").exists()
    torsh("run", mlp, "-o", tmp_path / "a.npz")
    torsh("run", tmp_path / "m.mlir", "-o", tmp_path / "b.npz")
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        assert a["y"].tobytes() == b["y"].tobytes()


def test_compile_to_a_program_and_load_it(torsh, convnet, tmp_path):
    code, out, err = torsh("compile", convnet, "-o", tmp_path / "program")
    assert (code, out) == (0, "")
    assert "generate code" in err
    x = np.random.default_rng(3).normal(size=(1, 32, 12, 12)).astype(np.float32)
    (y,) = Executable(load_program(tmp_path / "program", verify=True)).run([x])
    np.testing.assert_allclose(y, reference(convnet, x), atol=1e-4)
    assert torsh("compile", convnet, "-o", tmp_path / "program")[0] == 1


def test_inspect_shows_what_is_there(torsh, convnet):
    code, out, _ = torsh("inspect", convnet, "--all")
    assert code == 0
    assert "input   x     f32[1, 32, 12, 12]" in out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert rows["conv"] == ["1"]
    assert rows["batch_norm"] == ["1"]
    assert rows["packed_conv"] == ["1"]
    assert rows["fold-batch-norm"][0] == "applied"
    assert rows["winograd"][0] == "applied"
    assert "Conv" in out


def test_inspect_shows_layout_and_device(torsh, tmp_path):
    stored = 'tensor<2x3xf32, #torsh.tensor<layout = [1, 0], device = "cpu">>'
    path = tmp_path / "stored.mlir"
    path.write_text(
        f"func.func @main(%x: {stored}) -> tensor<2x3xf32> "
        'attributes {arg_names = ["x"], result_names = ["y"]} {\n'
        f"%y = torsh.relu %x : ({stored}) -> tensor<2x3xf32>\n"
        "func.return %y : tensor<2x3xf32> }"
    )
    code, out, _ = torsh("inspect", path)
    assert code == 0
    assert "input   x     f32[2, 3]  layout [1, 0]" in out
    assert "output  y     f32[2, 3]\n" in out
    code, out, _ = torsh("inspect", path, "--shapes")
    assert code == 0
    assert re.search(r"x +\[1, 0\] +cpu", out)


def test_inspect_sees_which_rewrites_are_off(torsh, convnet):
    _, out, _ = torsh("inspect", convnet, "--disable-rewrite", "winograd")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert rows["winograd"][:2] == ["not", "used"]
    assert rows["fold-batch-norm"][0] == "applied"
    _, out, _ = torsh("inspect", convnet, "--numerics", "strict")
    assert "applied" not in out


def test_inspect_counts_memory(torsh, mlp):
    _, out, _ = torsh("inspect", mlp, "--size", "n=3")
    assert "x [3, 8]" in out
    assert "prepared weights" in out


def test_inspect_draws(torsh, convnet, tmp_path):
    code, _, _ = torsh("inspect", convnet, "--svg", tmp_path / "g.svg", "--dot", tmp_path / "g.dot")
    assert code == 0
    root = ET.parse(tmp_path / "g.svg").getroot()
    names = Counter(child.tag.rpartition("}")[2] for child in root)
    texts = [child.text for child in root if child.tag.endswith("text")]
    dot = (tmp_path / "g.dot").read_text()
    assert names["rect"] * 2 == names["text"]
    assert any("packed_conv" in text for text in texts)
    assert texts[0] == "x"
    assert dot.count("[label=") == names["rect"]
    assert dot.count("->") == names["path"] >= names["rect"] - 1


def test_inspect_prints_ir_that_torsh_opt_reads(torsh, mlp, capsys, tmp_path):
    from tools.torsh_opt import main as opt

    _, out, _ = torsh("inspect", mlp, "--ir", "optimised")
    path = tmp_path / "m.mlir"
    path.write_text(out)
    assert opt([str(path)]) == 0
    assert capsys.readouterr().out == out


def test_bench_prints_a_paired_ratio(torsh, mlp):
    code, out, _ = torsh("bench", mlp, "--seconds", "0.05", "--threads", "1")
    assert code == 0
    assert "paired ratio onnxruntime / torsh" in out


def test_paired_times():
    calls = []
    times = measure(lambda: calls.append("ours"), lambda: calls.append("theirs"), 0.0)
    assert len(times.ours) == len(times.theirs) >= 5
    assert calls.count("ours") == calls.count("theirs")
    first = calls[6::2]
    assert {"ours", "theirs"} == set(first)
    assert PairedTimes([1.0, 2.0, 4.0], [2.0, 2.0, 2.0]).quartiles() == (0.75, 1.0, 1.5)


def test_ops_lists_the_registry(torsh, monkeypatch):
    from torsh_dialect.declare import OPS

    _, out, _ = torsh("ops")
    listed = [line.split()[0] for line in out.splitlines()[1:]]
    assert sorted(listed) == sorted(op.name.removeprefix("torsh.") for op in OPS)
    _, out, _ = torsh("ops", "--kind", "Reduce")
    assert {line.split()[1] for line in out.splitlines()[1:]} == {"Reduce"}
    _, out, _ = torsh("ops", "--limits")
    assert "1 to 28" in out
    rows = {row["name"]: row for row in json.loads(torsh("ops", "--json")[1])}
    assert rows["sort"]["dynamic"]
    assert "f16" in rows["sort"]["dtypes"]
    assert "c64" not in rows["sort"]["dtypes"]  # no order
    monkeypatch.setitem(sys.modules, "torsh_fx.importers.torch_ops", None)  # as without torch
    operators = json.loads(torsh("ops", "--frontend", "onnx", "--json")[1])
    found = {one["name"]: one for one in operators}
    assert found["Relu"]["op"] == "relu"
    assert found["Gather"]["elements"] == "any; int"
    assert torsh("ops", "--frontend", "torch", "--json")[1].strip() == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(torsh, verb):
    code, out, _ = torsh(verb, "--help")
    assert code == 0
    assert f"\n    torsh {verb}" in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", "{tmp}/none.onnx"], "none.onnx: No such file"),
        (["run", "{tmp}/text.onnx"], "text.onnx"),
        (["run", "{tmp}/text.mlir"], "text.mlir"),
        (["run", "{mlp}", "--inputs", "{tmp}/text.onnx"], "text.onnx"),
        (["run", "{mlp}", "--input", "z={tmp}/z.npy"], "no inputs z"),
        (["run", "{mlp}", "--input", "x={tmp}/z.npy"], "'x'"),
        (["run", "{mlp}", "--inputs", "{tmp}/cut.npz"], "cut.npz holds no arrays"),
        (["run", "{mlp}", "--inputs", "{tmp}/none.npz"], "none.npz: No such file"),
        (["run", "{mlp}", "--input", "x={tmp}/two.npz"], "holds several arrays"),
        (["run", "{mlp}", "--size", "m=3"], "m; free: n"),
        (["run", "{mlp}", "--dim", "m=3"], "['m']"),
        (["run", "{mlp}", "--compare", "torch"], ".pt2"),
        (["run", "{mlp}", "-o", "{tmp}/out.json"], ".npz"),
        (["compile", "{mlp}", "-o", "{tmp}/no/such/folder.mlir"], "folder"),
    ],
)
def test_bad_input_is_one_clear_message(torsh, mlp, tmp_path, args, message):
    (tmp_path / "text.onnx").write_text("this is no model")
    (tmp_path / "text.mlir").write_text("this is no model")
    np.save(tmp_path / "z.npy", np.ones((2, 8), np.float64))
    np.savez(tmp_path / "two.npz", x=np.ones((2, 8), np.float32))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "two.npz").read_bytes()[:200])
    code, out, err = torsh(*(arg.format(tmp=tmp_path, mlp=mlp) for arg in args))
    assert (code, out) == (1, "")
    assert err.startswith("torsh: error: ")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("args", [["nope"], [], ["run"], ["run", "m.onnx", "--target", "mips"]])
def test_wrong_usage(torsh, args):
    assert torsh(*args)[0] == 2


def test_extents_are_fixed_or_bounded_by_dim(torsh, mlp):
    assert torsh("run", mlp, "--dim", "n=4", "--compare", "onnxruntime")[0] == 0
    code, _, err = torsh("run", mlp, "--dim", "n=1:8", "--size", "n=9")
    assert code == 1
    assert "9" in err
    assert "8" in err


def test_random_inputs_keep_to_types_and_bounds():
    spec = EntrySpec(
        inputs=(
            TensorSpec("a", "f16", ("n", "2*n")),
            TensorSpec("b", "bool", ("m",)),
            TensorSpec("c", "ui8", (3,)),
            TensorSpec("d", "c64", ()),
        ),
        symbols=(SymbolSpec("m", 0, 1), SymbolSpec("n", 5, None)),
    )
    a, b, c, d = random_inputs(spec, integers=(3, 6))
    assert [x.dtype.name for x in (a, b, c, d)] == ["float16", "bool", "uint8", "complex64"]
    assert [x.shape for x in (a, b, c, d)] == [(5, 10), (1,), (3,), ()]
    assert set(c.tolist()) <= {3, 4, 5}
    assert random_inputs(spec, sizes={"n": 6})[0].shape == (6, 12)


def test_difference_counts_nan_infinities_and_types():
    a = np.array([1.0, np.nan, np.inf, -4.0], np.float32)
    assert difference(a, a) == (0.0, 4.0)
    assert difference(a, a + np.float32(0.5))[0] == 0.5
    assert difference(a, np.nan_to_num(a))[0] == np.inf
    assert difference(a, a.astype(np.float64))[0] == np.inf
    assert difference(a, a[:2])[0] == np.inf
    assert difference(a[:0], a[:0]) == (0.0, 1.0)
    assert difference(np.array([np.inf]), np.array([1.0]))[0] == np.inf


def test_texts():
    assert table([["a", "bb"], ["ccc", "d"]]) == "a    bb\nccc  d"
    assert markdown_table([["a"], ["b"]]) == "| a |\n| --- |\n| b |"
    assert [size_text(n) for n in (5, 2048, 3 << 30)] == ["5 bytes", "2.0 KiB", "3.0 GiB"]
    assert [time_text(t) for t in (2.0, 0.0125, 3e-6)] == ["2 s", "12.5 ms", "3 us"]
