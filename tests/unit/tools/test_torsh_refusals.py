"""`torsh` and `torsh-opt` refuse before they work: one message, the right exit code, no file."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from tools.torsh_opt import main as opt_main

ADD = """func.func @main(%x: tensor<4xf32>, %b: tensor<4xf32>) -> tensor<4xf32> {KEYS} {{
  %y = torsh.add %x, %b : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  func.return %y : tensor<4xf32>
}}
"""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", "--input", "x"], "write name=file.npy"),
        (["run", "--size", "n=x"], "write NAME=N"),
        (["run", "--size", "n=1:2"], "write NAME=N"),
        (["run", "--size", "n=-1"], "write NAME=N"),
        (["run", "--size", "n=\u00b2"], "write NAME=N"),
        (["run", "--size", "n=99999999999999999999"], "write NAME=N"),
        (["run", "--dim", "n=-1"], "name=1:64"),
        (["run", "--dim", "n=5:2"], "the lower bound is over the upper one"),
        (["run", "--integers", "5:1"], "low:high"),
        (["run", "--integers", "0:99999999999999999999"], "low:high"),
        (["run", "--seed", "-1"], "at least 0"),
        (["run", "--threads", "0"], "at least 1"),
        (["run", "--validate", "0"], "at least 1"),
        (["run", "--tolerance", "nan"], "at least 0"),
        (["run", "--tolerance", "-1"], "at least 0"),
        (["bench", "--seconds", "-1"], "at least 0"),
        (["bench", "--seconds", "inf"], "at least 0"),
        (["compile", "-o", "m.torshpkg", "--samples", "-1"], "at least 0"),
        (["quantize", "-o", "m.mlir", "--group-size", "-1"], "at least 0"),
        (["quantize", "-o", "m.mlir", "--percentile", "nan"], "at most 100"),
        (["quantize", "-o", "m.mlir", "--minimum-sqnr", "nan"], "give a number"),
        (["ops", "--limits", "--kind", "Reduce"], "not allowed with"),
    ],
)
def test_values_that_cannot_be_are_wrong_usage(torsh, args, message):
    verb, *rest = args
    model = [] if verb == "ops" else ["none.onnx"]  # there is no such file: nothing was tried
    code, out, err = torsh(verb, *model, *rest)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", "{mlp}", "--size", "n=1000000000000"], "smaller extents with --size"),
        (["run", "{tmp}"], "is a folder, not a model"),
        (["run", "{tmp}/damaged.torshpkg"], "damaged.torshpkg"),
        (["run", "{tmp}/m.torshpkg", "--validate", "2"], "--validate"),
        (["run", "{tmp}/m.torshpkg", "--dim", "n=2", "--numerics", "strict"], "--dim, --numerics"),
        (["run", "{tmp}/m.torshpkg", "--target", "x86-64-v3"], "--target"),
        (["run", "{mlp}", "--trust", "store.json"], "--trust: only packages"),
        (["inspect", "{tmp}/m.torshpkg"], "is a package: `torsh run` runs it"),
        (["bench", "{tmp}/m.torshpkg"], "is a package"),
        (["bench", "{tmp}/add.mlir"], "onnxruntime runs .onnx files"),
        (["compile", "{mlp}", "-o", "{tmp}/o.mlir", "--samples", "3"], "--samples: only packages"),
        (["compile", "{mlp}", "-o", "{tmp}"], "is there already"),
        (["compile", "{mlp}", "-o", "{tmp}/o.torshpkg", "--name", "a b"], "package name 'a b'"),
        (["compile", "{mlp}", "-o", "{tmp}/o.torshpkg", "--package-version", "1"], "semantic"),
        (["quantize", "{mlp}", "-o", "{tmp}/o.mlir", "--mode", "dynamic", "--skip", "nope"],
         "skip nope: no layer"),
        (["quantize", "{tmp}/add.mlir", "-o", "{tmp}/o.mlir", "--mode", "dynamic"], "no layer"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_clear_message(torsh, mlp, tmp_path, args, message):
    (tmp_path / "damaged.torshpkg").write_bytes(b"PK\x03\x04 and nothing else")
    (tmp_path / "m.torshpkg").write_bytes(b"PK\x03\x04")
    (tmp_path / "add.mlir").write_text(ADD.format(KEYS=""))
    code, out, err = torsh(*(arg.format(tmp=tmp_path, mlp=mlp) for arg in args))
    assert (code, out) == (1, "")
    assert err.startswith("torsh: error: ")
    assert message in err
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("o.")]


def test_a_package_gets_a_name_from_any_file_name(torsh, mlp, tmp_path):
    path = tmp_path / "My Model (v2)..3.torshpkg"
    assert torsh("compile", mlp, "-o", path)[0] == 0
    code, out, _ = torsh("run", path)
    assert code == 0
    assert out.startswith("output")


def test_text_without_names_takes_those_of_its_values(torsh, tmp_path):
    path = tmp_path / "add.mlir"
    path.write_text(ADD.format(KEYS=""))
    np.savez(tmp_path / "in.npz", x=np.arange(4, dtype=np.float32), b=np.ones(4, np.float32))
    code, _, err = torsh("run", path, "--inputs", tmp_path / "in.npz", "-o", tmp_path / "y.npz")
    assert code == 0, err
    with np.load(tmp_path / "y.npz") as found:
        assert found["y"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('attributes {arg_names = ["a"]}', "a name of its own"),
        ('attributes {arg_names = ["a", "a"]}', "a name of its own"),
        ("attributes {arg_names = 5 : i64}", "is no list"),
        ("attributes {arg_names = [1 : i64, 2 : i64]}", "is no string"),
        ('attributes {torsh.symbols = {n = "x"}}', "is no array of integers"),
        ("attributes {torsh.symbols = {n = array<i64: 5, 2>}}", "LOW <= HIGH"),
        ("attributes {torsh.symbols = {n = array<i64: 1, 2, 3>}}", "LOW <= HIGH"),
        ("attributes {torsh.symbols = 5 : i64}", "not a dictionary"),
    ],
)
def test_attributes_of_another_kind_are_named(torsh, tmp_path, keys, message):
    (tmp_path / "add.mlir").write_text(ADD.format(KEYS=keys))
    code, _, err = torsh("run", tmp_path / "add.mlir")
    assert code == 1
    assert "add.mlir" in err
    assert message in err


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('torsh.state = [{name = "a"}]', "without input, output, weight"),
        ('torsh.state = [{name = "a", input = "q", output = 0 : i64, weight = "w"}]', "integer"),
        ("torsh.weights = 2 : i64", "is no string"),
        ("torsh.format_version = 2 : i64", "is no string"),
    ],
)
def test_attributes_of_the_module_are_checked(torsh, tmp_path, keys, message):
    text = f"module attributes {{{keys}}} {{\n{ADD.format(KEYS='')}}}"
    (tmp_path / "add.mlir").write_text(text)
    code, _, err = torsh("run", tmp_path / "add.mlir")
    assert code == 1
    assert message in err


def test_values_in_a_circle_are_refused(torsh, tmp_path, capsys):
    kind = "(tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>"
    (tmp_path / "cycle.mlir").write_text(
        "func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {\n"
        f"  %y = torsh.add %x, %z : {kind}\n"
        f"  %z = torsh.add %x, %y : {kind}\n"
        "  func.return %y : tensor<4xf32>\n}\n"
    )
    code, _, err = torsh("run", tmp_path / "cycle.mlir")
    assert code == 1
    assert "operand 1 is used before it is defined" in err
    assert opt_main([str(tmp_path / "cycle.mlir")]) == 1


def test_quoted_lines_are_cut(torsh, tmp_path):
    (tmp_path / "long.mlir").write_text("(" * 1_000_000)
    code, _, err = torsh("run", tmp_path / "long.mlir")
    assert code == 1
    assert len(err) < 1500
    (tmp_path / "empty.mlir").write_text("// nothing\n" * 2)
    assert torsh("run", tmp_path / "empty.mlir")[0] == 1
    (tmp_path / "empty.mlir").write_text("")
    assert "the text is empty" in torsh("run", tmp_path / "empty.mlir")[2]


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no /dev/full")
def test_errors_while_writing_name_the_file(tmp_path, capsys):
    (tmp_path / "add.mlir").write_text(ADD.format(KEYS=""))
    assert opt_main([str(tmp_path / "add.mlir"), "-o", "/dev/full"]) == 1
    assert "/dev/full: No space left" in capsys.readouterr().err
    code = opt_main([str(tmp_path / "add.mlir"), "--emit", "object", "-o", __file__])
    assert code == 1
    assert "is a file" in capsys.readouterr().err
    assert opt_main([str(tmp_path / "add.mlir"), "--disable-rewrite", "nope"]) == 2


@pytest.mark.parametrize("tool", ["torsh", "torsh_opt", "torsh_package"])
def test_version(tool):
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-m", f"tools.{tool}", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tool.replace('_', '-')} ")
    assert f"Python {sys.version_info[0]}.{sys.version_info[1]}" in done.stdout


def loop_model(path, trips):
    """y = -x, as often as the loop runs."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Neg", ["v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [4]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [4]),
        ],
    )
    stored = [numpy_helper.from_array(np.array(trips), "t")]
    node = helper.make_node("Loop", ["t", "", "x"], ["y"], body=body)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in "xy")
    graph = helper.make_graph([node], "g", [x], [y], stored)
    opsets = [helper.make_opsetid("", 21)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)


def test_a_loop_without_end_is_ended_by_an_interrupt(tmp_path):
    loop_model(tmp_path / "loop.onnx", 2**62)
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "loop.onnx")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGINT, done.stderr


INTERRUPTED = """
import os, signal, sys, threading
from contextlib import contextmanager
import tools.torsh_verbs.run as run
from tools.torsh import main
inner = run.ended_by_interrupt
@contextmanager
def soon():
    with inner():
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        yield
run.ended_by_interrupt = soon
sys.exit(main(["run", sys.argv[1], "--no-cache"]))
"""
"""Ctrl-C half a second after the model's code began."""


def test_functions_that_double_each_other_are_refused(torsh, tmp_path, monkeypatch):
    monkeypatch.setattr("torsh_fx.importers.onnx_graph.MOST_INLINED", 1000)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("f", 1)]
    functions = [
        helper.make_function(
            "f", f"F{n}", ["a"], ["b"],
            [
                helper.make_node(f"F{n + 1}", ["a"], ["c"], domain="f"),
                helper.make_node(f"F{n + 1}", ["c"], ["b"], domain="f"),
            ],
            opsets,
        )
        for n in range(40)
    ]  # fmt: skip
    last = [helper.make_node("Relu", ["a"], ["b"])]
    functions.append(helper.make_function("f", "F40", ["a"], ["b"], last, opsets))
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in "xy")
    graph = helper.make_graph([helper.make_node("F0", ["x"], ["y"], domain="f")], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=functions)
    save(model, tmp_path / "laughs.onnx")
    code, _, err = torsh("run", tmp_path / "laughs.onnx")
    assert code == 1
    assert "have more than 1,000 nodes" in err


def test_random_text_is_words_by_the_seed(torsh, tmp_path):
    x, y = (helper.make_tensor_value_info(n, TensorProto.STRING, [2]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    opsets = [helper.make_opsetid("", 21)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "s.onnx")
    shown = [torsh("run", tmp_path / "s.onnx", "--seed", seed) for seed in (1, 1, 4)]
    assert [code for code, _, _ in shown] == [0, 0, 0]
    assert shown[0] == shown[1] != shown[2]
    assert "string[2]" in shown[0][1]


def test_shapes_that_square_themselves_are_refused(torsh, tmp_path):
    """n, n * n, n ** 4, ...: thirty nodes ask for a billion factors."""
    nodes, last = [], "x"
    for n in range(30):
        nodes += [
            helper.make_node("Shape", [last], [f"s{n}"]),
            helper.make_node("Mul", [f"s{n}", f"s{n}"], [f"q{n}"]),
            helper.make_node("Expand", ["one", f"q{n}"], [f"e{n}"]),
        ]
        last = f"e{n}"
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    y = helper.make_tensor_value_info(last, TensorProto.FLOAT, None)
    one = numpy_helper.from_array(np.ones(1, np.float32), "one")
    opsets = [helper.make_opsetid("", 21)]
    graph = helper.make_graph(nodes, "g", [x], [y], [one])
    save(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "power.onnx")
    code, _, err = torsh("run", tmp_path / "power.onnx")
    assert code == 1
    assert "512 factors" in err
