"""Text of GPU programs: PTX that needs nothing else, IR that is read back, errors that say why."""

import shutil
import subprocess

import pytest
from gpu_programs import PROGRAMS
from xdsl.dialects.memref import MemRef
from xdsl.parser import Parser

from lowering.codegen import CodeGenerator, CodegenSettings
from lowering.gpu.dialect import GPU
from lowering.gpu.emit import llvm_text
from lowering.gpu.ptx import GPU_TARGETS, check_ptx, gpu_module, ptx_of
from lowering.kern.dialect import KERN
from torsh_dialect.context import Context
from torsh_dialect.errors import CodegenError, UnsupportedError

HERE = CodeGenerator(CodegenSettings(inprocess=True))


@pytest.mark.parametrize("target", GPU_TARGETS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_ptx_is_self_contained(name, target, compiled_module):
    text = ptx_of(compiled_module(PROGRAMS[name].text()), GPU_TARGETS[target], HERE)
    assert f".target {target}" in text
    assert text.count(".visible .entry") == 1
    assert ".local" not in text  # no stack: everything stays in registers


@pytest.mark.skipif(shutil.which("ptxas") is None, reason="needs NVIDIA's assembler")
@pytest.mark.parametrize("target", GPU_TARGETS)
def test_nvidias_assembler_takes_the_ptx_and_spills_nothing(target, compiled_module, tmp_path):
    for name in ("chain", "layer_norm", "two_rounds", "mean_f64"):
        text = ptx_of(compiled_module(PROGRAMS[name].text()), GPU_TARGETS[target], HERE)
        source = tmp_path / f"{name}.ptx"
        source.write_text(text)
        done = subprocess.run(
            ["ptxas", "-v", f"-arch={target}", str(source), "-o", str(tmp_path / "cubin")],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "0 bytes spill stores, 0 bytes spill loads" in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        ".extern .func (.param .b32 func_retval0) llvm.nvvm.no.such (.param .b32 a)",
        "\tcall.uni (retval0), expf, (param0);",
        "\tmul.f32 \t%r1, %r2, %r3;",
        "\tadd.ftz.f32 \t%r1, %r2, %r3;",
    ],
)
def test_ptx_with_calls_or_free_rounding_is_refused(line):
    check_ptx("\tmul.rn.f32 \t%r1, %r2, %r3;\n\tadd.s64 \t%rd1, %rd2, 4;\n")
    with pytest.raises(CodegenError, match="not self-contained, exact code"):
        check_ptx(f"\tmov.b32 \t%r1, 0;\n{line}\n")


@pytest.mark.parametrize("name", ["softmax_two_warps", "argmax"])
def test_the_gpu_stage_is_read_back_to_the_same_code(name, compiled_module):
    module = compiled_module(PROGRAMS[name].text())
    ctx = Context()
    for dialect in (GPU, KERN, MemRef):
        ctx.load_dialect(dialect)
    again = Parser(ctx, str(module)).parse_module()
    again.verify()
    texts = [llvm_text(gpu_module(m), GPU_TARGETS["sm_80"]) for m in (module, again)]
    assert texts[0] == texts[1]


REFUSED = {
    "torsh.cumsum": ("torsh.cumsum %x {axis = 1 : i64}", "tensor<2x3xf32>"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_kernel_is_an_error_that_names_it(name, compiled_module):
    op, type = REFUSED[name]
    text = f"""func.func @main(%x: {type}) -> {type} {{
        %r = {op} : ({type}) -> {type}
        func.return %r : {type}
    }}"""
    with pytest.raises(UnsupportedError, match=f"to-gpu: {name}"):
        compiled_module(text)
