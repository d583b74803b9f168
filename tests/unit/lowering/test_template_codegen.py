"""What LLVM makes of the templates for every target: no library calls, spills, stray reads."""

import re
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from lowering.cpu import jit
from lowering.cpu.templates import (
    batched,
    conv,
    conv_int8,
    conv_transposed,
    depthwise,
    gemm,
    int8,
    int8_batched,
    pack,
    pool,
    transposed,
    winograd,
)
from lowering.cpu.templates.epilogue import bias_residual_activation
from lowering.cpu.templates.window import Axis
from lowering.cpu.text import Module
from torsh_dialect.target import TARGETS

TARGET_NAMES = ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"]
SAME = Axis(3, 1, 1, 1, 1)
EPILOGUE = bias_residual_activation(bias=20, residual=21, residual_stride=50, activation="relu")

UP = conv_transposed.TransposedAxis(4, 2, 1, 1, 1)
TRANSPOSED = conv_transposed.TransposedConvParams(64, 50, UP, UP)

KERNELS = {
    "gemm": (gemm.emit, gemm.GemmParams(50, 600, epilogue=EPILOGUE)),
    "gemm narrow": (gemm.emit, gemm.GemmParams(3, 600)),
    "gemm static": (gemm.emit, gemm.GemmParams(768, 768, m=128)),
    "gemm one row": (gemm.emit, gemm.GemmParams(768, 768, m=1)),
    "gemm double": (gemm.emit, gemm.GemmParams(40, 30, element="double")),
    "batched": (batched.emit, batched.BatchedGemmParams()),
    "batched row": (batched.emit, batched.BatchedGemmParams(one_row=True)),
    "batched transposed": (batched.emit, batched.BatchedGemmParams(True, k=64)),
    "conv": (conv.emit, conv.ConvParams(64, 64, SAME, SAME, epilogue=EPILOGUE)),
    "conv static": (conv.emit, conv.ConvParams(64, 64, SAME, SAME, dims=(1, 56, 56))),
    "conv strip": (conv.emit, conv.ConvParams(3, 64, SAME, SAME)),
    "conv deep": (conv.emit, conv.ConvParams(300, 64, SAME, SAME)),
    "conv groups": (conv.emit, conv.ConvParams(64, 100, SAME, SAME, groups=4)),
    "winograd": (winograd.emit, winograd.WinogradParams(64, 50, SAME, SAME)),
    "winograd pack": (winograd.emit_pack, winograd.WinogradParams(64, 50, SAME, SAME)),
    "depthwise": (depthwise.emit, depthwise.DepthwiseParams(50, SAME, SAME, epilogue=EPILOGUE)),
    "transposed": (conv_transposed.emit, TRANSPOSED),
    "transposed pack": (conv_transposed.emit_pack, TRANSPOSED),
    "max": (pool.emit, pool.PoolParams("max", 50, SAME, SAME)),
    "avg": (pool.emit, pool.PoolParams("avg", 50, SAME, SAME)),
    "mean": (pool.emit_global_mean, pool.GlobalMeanParams(50)),
    "int8": (int8.emit, int8.Int8GemmParams(50, 600)),
    "int8 unsigned": (int8.emit, int8.Int8GemmParams(50, 600, False)),
    "int8 batched": (int8_batched.emit, int8_batched.Int8BatchedParams(71)),
    "int8 batched dynamic": (int8_batched.emit, int8_batched.Int8BatchedParams(None)),
    "int8 batched unsigned": (int8_batched.emit, int8_batched.Int8BatchedParams(71, False, 50)),
    "int8 max": (pool.emit, pool.PoolParams("max", 50, SAME, SAME, element="i8")),
    "int8 transpose": (transposed.emit, transposed.TransposeParams(bytes=1)),
    "int8 conv": (conv_int8.emit, conv_int8.Int8ConvParams(64, 50, SAME, SAME)),
    "int8 conv pack": (conv_int8.emit_pack, conv_int8.Int8ConvParams(64, 50, SAME, SAME)),
    "pack": (pack.emit, pack.pack_nk(50, 600)),
}


MAIN_LOOPS = [
    *("gemm", "gemm static", "gemm one row", "batched transposed"),
    *("conv", "conv static", "conv strip", "conv deep", "winograd", "transposed"),
    *("int8", "int8 batched"),
]


def module_of(kernel: str, target) -> Module:
    emit, params = KERNELS[kernel]
    module = Module()
    emit(module, "kernel", params, target)
    return module


def undefined_symbols(elf: bytes) -> list[str]:
    """Names of undefined symbols of a little-endian ELF64 object (System V ABI, chapter 4)."""
    (offset,) = struct.unpack_from("<Q", elf, 0x28)
    size, count = struct.unpack_from("<HH", elf, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, offset + i * size) for i in range(count)]
    names: list[str] = []
    for section in sections:
        if section[1] != 2:  # SHT_SYMTAB
            continue
        strings = sections[section[6]][4]
        for at in range(section[4] + 24, section[4] + section[5], 24):
            name, _, _, index = struct.unpack_from("<IBBH", elf, at)
            if index == 0 and name:
                end = elf.index(b"\0", strings + name)
                names.append(elf[strings + name : end].decode())
    return names


@pytest.mark.parametrize("name", TARGET_NAMES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_objects_import_what_the_loader_gives(name, kernel):
    """Nothing; a transposition, which copies single rows and columns, memcpy."""
    target = TARGETS[name]
    imports = undefined_symbols(jit.object_file(module_of(kernel, target), target))
    assert imports == (["memcpy"] if kernel == "int8 transpose" else [])


def test_undefined_symbols_are_found():
    target, module = TARGETS["x86-64-v3"], Module()
    module.declare("away", "void", ())
    module.functions.append("define void @f() {\n  call void @away()\n  ret void\n}\n")
    assert undefined_symbols(jit.object_file(module, target)) == ["away"]


def innermost_loops(assembly: str) -> Iterator[str]:
    """Bodies of loops without a label inside: from a label to the jump back to it."""
    lines, labels = assembly.splitlines(), {}
    for number, line in enumerate(lines):
        if label := re.match(r"(\.LBB\w+):", line):
            labels[label[1]] = number
        jump = re.search(r"\b(?:j\w+|b\.\w+|b|cbn?z\s+\w+,)\s+(\.LBB\w+)", line)
        if jump and jump[1] in labels:
            body = lines[labels[jump[1]] + 1 : number + 1]
            if not any(re.match(r"\.LBB", inner) for inner in body):
                yield "\n".join(body)


MULTIPLY = re.compile(r"vfmadd\d+p|mulps|fmla|pmaddwd|mla|vpdpbusd")
STACK = re.compile(r"\(%rsp|\[sp")


@pytest.mark.parametrize("name", TARGET_NAMES)
@pytest.mark.parametrize("kernel", MAIN_LOOPS)
def test_main_loops_do_not_spill(name, kernel):
    target = TARGETS[name]
    loops = [
        loop
        for loop in innermost_loops(jit.assembly(module_of(kernel, target), target))
        if len(MULTIPLY.findall(loop)) >= 8
    ]
    assert loops, "the main loop was not found"
    assert [loop for loop in loops if STACK.search(loop)] == []


def test_main_loop_has_only_what_it_needs():
    """4 steps of 6x16 on AVX2: 48 FMA, 24 broadcasts, 8 loads, 4 prefetches, the loop's own few."""
    target = TARGETS["x86-64-v3"]
    loops = innermost_loops(jit.assembly(module_of("gemm static", target), target))
    main = max(loops, key=lambda loop: len(MULTIPLY.findall(loop)))
    opcodes = [line.split()[0] for line in main.splitlines() if line.startswith("\t")]
    assert opcodes.count("vbroadcastss") == 24
    assert sum(opcode.startswith("vfmadd") for opcode in opcodes) == 48
    assert len(opcodes) <= 48 + 24 + 8 + 4 + 6


GUARDED = """
    import ctypes, mmap, sys
    import numpy as np
    from lowering.cpu import jit
    from lowering.cpu.templates import batched, conv, conv_int8, conv_transposed, depthwise
    from lowering.cpu.templates import gemm, int8, int8_batched, pack, pool, winograd
    from lowering.cpu.templates import transpose_params
    from lowering.cpu.templates import transposed as turned
    from lowering.cpu.templates.window import Axis
    from lowering.cpu.text import Module
    from torsh_dialect.target import TARGETS

    PAGE = mmap.PAGESIZE
    libc = ctypes.CDLL(None, use_errno=True)
    KEEP = []

    def fenced(dims, at_end, value=1, dtype=np.float32):
        '''An array that ends (or begins) at a page that may not be touched.'''
        size = int(np.prod(dims)) * np.dtype(dtype).itemsize
        pages = -(-size // PAGE)
        area = mmap.mmap(-1, (pages + 2) * PAGE)
        KEEP.append(area)
        view = np.frombuffer(area, np.uint8)
        address = view.ctypes.data
        for page in (0, pages + 1):
            place = ctypes.c_void_p(address + page * PAGE)
            assert libc.mprotect(place, ctypes.c_size_t(PAGE), 0) == 0
        start = PAGE + (pages * PAGE - size if at_end else 0)
        array = view[start : start + size].view(dtype).reshape(dims)
        array[:] = value
        return array

    target = TARGETS[sys.argv[1]]

    compiled = {}

    def run(emit, params, words, units):
        if (emit, params) not in compiled:
            module = Module()
            emit(module, "kernel", params, target)
            compiled[emit, params] = jit.compile_module(module, target, ["kernel"])
        compiled[emit, params].kernel("kernel")(words, 0, units)

    for at_end in (True, False):
        f = lambda *dims: fenced(dims, at_end)
        b8 = lambda *dims: fenced(dims, at_end, dtype=np.int8)
        for n in (5, 37):
            for m in (1, 5, 13):
                p, packing = gemm.GemmParams(n, 19), pack.pack_nk(n, 19)
                packed = f(*pack.packed_dims(packing, target))
                run(pack.emit, packing, [f(n, 19), packed], packed.shape[1])
                units = gemm.parallel_extent(p, target).value(m)
                run(gemm.emit, p, [f(m, 19), packed, f(m, n), m], units)
                for transposed in (True, False):
                    p = batched.BatchedGemmParams(transposed)
                    b = f(n, 19) if transposed else f(19, n)
                    size = batched.scratch_bytes(p, target, 19)
                    words = [f(m, 19), b, f(m, n), m, n, 19, 1, 19, 0, 0, b.shape[1], 0, 0]
                    words += [n, 0, 0, f(size // 4), size]
                    run(batched.emit, p, words, batched.parallel_extent(p, target, 1, n))
            p = batched.BatchedGemmParams(one_row=True)
            words = [f(1, 19), f(19, n), f(1, n), 1, n, 19, 1, 19, 0, 0, n, 0, 0, n, 0, 0, 0, 0]
            run(batched.emit, p, words, batched.parallel_extent(p, target, 1, n))
            for steps, k in ((19, 19), (None, 19), (None, 2), (None, 7)):
                p = int8_batched.Int8BatchedParams(steps)
                size = int8_batched.scratch_bytes(p, target, k)
                units = -(-n // int8_batched.group_columns(p, target))
                words = [b8(13, k), b8(k, n), f(13, n), 13, n, b8(units * size), size, k]
                run(int8_batched.emit, p, words, units)
            p = transpose_params.TransposeParams(bytes=1)
            units = transpose_params.units(p, 1, 70, n)
            run(turned.emit, p, [b8(70, n), b8(n, 70), 70, n], units)
            p = int8.Int8GemmParams(n, 19)
            packed = b8(*int8.packed_dims(p, target))
            units = int8.parallel_extent(p, target).value(13)
            run(int8.emit, p, [b8(13, 19), packed, f(13, n), 13], units)
        for channels, out in ((3, 21), (20, 37)):
            a = Axis(3, 1, 1, 1, 1)
            x, y = f(1, 5, 7, channels), f(1, 5, 7, out)
            p = conv.ConvParams(channels, out, a, a)
            packed = f(*pack.packed_dims(pack.pack_conv(out, channels, (3, 3)), target))
            size = conv.scratch_bytes(p)
            units = conv.parallel_extent(p, target).value(5 if p.strip else 35)
            run(conv.emit, p, [x, packed, y, 1, 5, 7, f(size // 4 + 16), size], units)
            p = winograd.WinogradParams(channels, out, a, a)
            packed = f(*winograd.packed_dims(p, target))
            run(winograd.emit_pack, p, [f(out, channels, 3, 3), packed], packed.shape[0])
            size = winograd.scratch_bytes(p, target)
            units = winograd.parallel_extent(p, target).value(3 * 4)
            run(winograd.emit, p, [x, packed, y, 1, 5, 7, f(size // 4), size], units)
            p = depthwise.DepthwiseParams(channels, a, a)
            packed = f(*pack.packed_dims(depthwise.packing(p), target))
            run(depthwise.emit, p, [x, packed, f(1, 5, 7, channels), 1, 5, 7], 5)
            p = conv_int8.Int8ConvParams(channels, out, a, a)
            packed = b8(*conv_int8.packed_dims(p, target))
            run(conv_int8.emit_pack, p, [b8(out, channels, 3, 3), packed], packed.shape[1])
            units = conv_int8.parallel_extent(p, target).value(35)
            run(conv_int8.emit, p, [b8(1, 5, 7, channels), packed, y, 1, 5, 7], units)
            up = conv_transposed.TransposedAxis(3, 2, 1, 1, 1)
            p = conv_transposed.TransposedConvParams(channels, out, up, up)
            packed = f(*conv_transposed.packed_dims(p, target))
            run(conv_transposed.emit_pack, p, [f(channels, out, 3, 3), packed], packed.shape[1])
            units = conv_transposed.parallel_extent(p, target).value(5 * 7)
            run(conv_transposed.emit, p, [x, packed, f(1, 9, 13, out), 1, 5, 7], units)
            for kind in ("max", "avg"):
                p = pool.PoolParams(kind, channels, a, a)
                run(pool.emit, p, [x, 0, f(1, 5, 7, channels), 1, 5, 7], 5)
            p = pool.GlobalMeanParams(channels)
            run(pool.emit_global_mean, p, [x, 0, f(1, channels), 1, 5, 7], 1)
    print("all inside")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="uses mprotect")
@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_no_access_outside_of_buffers(name):
    """Every buffer lies against a forbidden page, at its end and then at its beginning."""
    if not jit.runs_here(TARGETS[name]):
        pytest.skip(f"{name} does not run here")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(GUARDED), name],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "all inside\n", f"rc {done.returncode}: {done.stderr[-2000:]}"
