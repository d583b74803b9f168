"""`torsh-opt` in this process: options, stages, errors and exit codes."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lowering.runtime.elf import check_undefined
from tools.torsh_opt import main, split_chunks
from torsh_fx.pipeline import PASSES, stages
from torsh_fx.safetensors import write_safetensors

ROOT = Path(__file__).resolve().parents[3]
RELU = """func.func @main(%x: tensor<?xf32, #torsh.dims<[n]>>) -> tensor<?xf32, #torsh.dims<[n]>> {
  %r = torsh.relu %x : (tensor<?xf32, #torsh.dims<[n]>>) -> tensor<?xf32, #torsh.dims<[n]>>
  func.return %r : tensor<?xf32, #torsh.dims<[n]>>
}
"""
BROKEN = """func.func @main(%x: tensor<3xf32>) {
  %r = torsh.relu %x : (tensor<3xf32>) -> tensor<3xf64>
  func.return
}
"""
WEIGHT = """func.func @main() -> tensor<2xf32> {
  %w = torsh.weight {id = "w", type = tensor<2xf32>} : () -> tensor<2xf32>
  func.return %w : tensor<2xf32>
}
"""


@pytest.fixture
def opt(capsys, monkeypatch):
    """Runs the tool on text from standard input; gives exit code, output and messages."""

    def run(text, *args):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        code = main(args)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_without_passes_the_text_is_printed_as_it_is(opt):
    code, once, _ = opt(RELU)
    assert (code, opt(once)[1]) == (0, once)
    assert "torsh.relu %x" in once


def test_passes_run_in_the_order_given(opt):
    code, out, err = opt(RELU, "-p", "fuse,canonicalize", "--time-passes")
    assert code == 0
    assert "torsh.fused" in out
    assert [line.split()[-1] for line in err.splitlines()] == ["fuse", "canonicalize", "total"]


def test_every_pass_is_known_by_name(opt):
    code, out, _ = opt("", "--list-passes")
    assert code == 0
    assert out.split() == sorted(PASSES)


@pytest.mark.parametrize("name", PASSES)
def test_every_pass_runs_by_name(opt, name):
    assert opt("func.func @main() {\n  func.return\n}\n", "-p", name)[0] == 0


def test_optimise_is_the_pipeline_of_a_compilation(opt):
    from torsh_dialect.context import Context

    _, _, err = opt(RELU, "-O", "--time-passes")
    names = [line.split()[-1] for line in err.splitlines()]
    assert names == [*(one.name for one in stages(Context())), "total"]


def test_ir_after_all_goes_to_standard_error(opt):
    _, out, err = opt(RELU, "-p", "canonicalize,fuse", "--print-ir-after-all")
    assert [line for line in err.splitlines() if line.startswith("//")] == [
        "// IR after canonicalize",
        "// IR after fuse",
    ]
    assert err.endswith(out)


def test_stages_below_the_dialect(opt):
    assert "kern.lanes" in opt(RELU, "--emit", "kern")[1]
    assert "define i32 @torsh_run(" in opt(RELU, "--emit", "llvm")[1]
    assert "vmovups" in opt(RELU, "--emit", "asm")[1]
    assert "ldp" in opt(RELU, "--emit", "asm", "--target", "aarch64")[1]


def test_equal_input_gives_equal_text_in_other_processes(opt):
    here = opt(RELU, "--emit", "llvm")[1]
    command = [sys.executable, "-m", "tools.torsh_opt", "--emit", "llvm"]
    there = subprocess.run(
        command, input=RELU, capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert there.stdout == here


def test_objects_go_to_a_folder(opt, tmp_path):
    code, out, _ = opt(RELU, "--emit", "object", "-o", str(tmp_path / "objects"))
    paths = [Path(line) for line in out.splitlines()]
    assert code == 0
    assert [path.name for path in paths][-1] == "torsh_plan.o"
    kernel = paths[0].read_bytes()
    assert kernel[:4] == b"\x7fELF"
    check_undefined(kernel, "kernel", ())
    assert opt(RELU, "--emit", "object")[0] == 1


def test_output_file(opt, tmp_path):
    path = tmp_path / "out.mlir"
    assert opt(RELU, "-o", str(path))[:2] == (0, "")
    assert path.read_text() == opt(RELU)[1]


@pytest.mark.parametrize(
    ("text", "args", "message"),
    [
        (BROKEN, (), "torsh.relu: result is tensor<3xf64>, but operands imply tensor<3xf32>"),
        ("func.func @main( {", (), "-:1:18"),
        ("\0\0", (), "-:1:1"),
        (RELU, ("--emit", "gpu", "-p", "fuse"), "run the pass to-gpu before"),
        (RELU, ("--emit", "ptx", "-p", "fuse"), "run the pass to-gpu before"),
        (RELU, ("--emit", "kern", "-p", "canonicalize"), "torsh.relu"),
        (WEIGHT, ("--weights", "nowhere.npz"), "nowhere.npz: No such file"),
    ],
)
def test_errors_of_the_input(opt, text, args, message):
    code, out, err = opt(text, *args)
    assert (code, out) == (1, "")
    assert message in err
    assert "Traceback" not in err
    assert "builtin.module" not in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("-p", "nope"), "nope"),
        (("-p", "fuse{wide=3}"), "wide"),
        (("-p", "fuse{"), "fuse{"),
        (("--emit", "wasm"), "wasm"),
        (("--target", "mips"), "mips"),
        (("-p", "fuse", "-O"), "not allowed"),
        (("--nope",), "--nope"),
    ],
)
def test_wrong_usage(opt, args, message):
    code, out, err = opt(RELU, *args)
    assert (code, out) == (2, "")
    assert message in err


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('"' + "a" * 60 + "\n", "-:1:1"),
        ('\n  loc("open, tensor<2x1x' + "f" * 60, "-:2:7"),
        ('"ok" "a\\q' + "x" * 60 + '"', "-:1:6"),
    ],
)
def test_open_strings_are_seen_at_once(opt, text, place):
    code, _, err = opt(text)
    assert code == 1
    assert place in err
    assert "not closed" in err


def test_quotes_in_comments_and_escapes_are_fine(opt):
    text = f"// it's \"open\n{RELU}".replace("{\n", '{ // "\n', 1)
    assert opt(text)[0] == 0
    assert opt(RELU.replace("%x :", r'%x {note = "a\"b\\ // \41"} :'))[0] == 0


def test_deep_nesting_is_an_error(opt):
    code, _, err = opt("func.func @main(%x: " + "tuple<" * 20_000)
    assert code == 1
    assert "nested too deeply" in err


def test_a_missing_file(capsys, tmp_path):
    assert main([str(tmp_path / "none.mlir")]) == 1
    assert "none.mlir: No such file" in capsys.readouterr().err


def test_debug_lets_the_error_through(opt):
    from torsh_dialect.errors import VerificationError

    with pytest.raises(VerificationError):
        opt(BROKEN, "--debug")


def test_no_verify_lets_a_broken_module_through(opt):
    assert opt(BROKEN, "--no-verify")[0] == 0


def test_expected_errors_are_printed_and_missing_ones_are_errors(opt):
    code, out, _ = opt(f"{BROKEN}// -----\n{BROKEN}", "--split-input-file", "--verify-diagnostics")
    assert code == 0
    assert out.count("operands imply") == 2
    code, _, err = opt(f"{BROKEN}// -----\n{RELU}", "--split-input-file", "--verify-diagnostics")
    assert code == 1
    assert "the part at line 6 has no error" in err


def test_chunks_know_their_lines():
    assert list(split_chunks("a\n// -----\nb\nc\n// -----\n")) == [
        (0, "a\n"),
        (2, "b\nc\n"),
        (5, ""),
    ]


def test_weights_are_checked(opt, tmp_path):
    good, short = tmp_path / "good.safetensors", tmp_path / "short.safetensors"
    write_safetensors(good, {"w": np.zeros(2, np.float32)})
    write_safetensors(short, {"w": np.zeros(1, np.float32)})
    assert opt(WEIGHT, "--weights", str(good))[0] == 0
    code, _, err = opt(WEIGHT, "--weights", str(short))
    assert code == 1
    assert "tensor<1xf32>" in err
    assert "tensor<2xf32>" in err


def test_rewrites_are_switched_off_by_name(opt):
    text = (ROOT / "tests/filecheck/passes/fold-batch-norm.mlir").read_text()
    first = text.partition("// -----")[0]
    assert "torsh.batch_norm" not in opt(first, "-p", "fold-batch-norm,canonicalize")[1]
    kept = opt(first, "-p", "fold-batch-norm", "--disable-rewrite", "fold-batch-norm")[1]
    assert "torsh.batch_norm" in kept
    assert "torsh.batch_norm" in opt(first, "-p", "fold-batch-norm", "--numerics", "strict")[1]


def test_help_shows_examples(opt):
    code, out, _ = opt("", "--help")
    assert code == 0
    assert "torsh-opt model.mlir -p 'canonicalize,fuse'" in out
