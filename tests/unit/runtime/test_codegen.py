"""Code generation in worker processes: crashes, limits, cancellation, forks, symbols, targets."""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lowering import worker
from lowering.codegen import CodeGenerator, CodegenSettings, CodegenUnit
from lowering.runtime.elf import ALLOWED_IMPORTS, read_symbols
from lowering.runtime.link import LinkedCode
from torsh_dialect.errors import CodegenError
from torsh_dialect.target import TARGETS

V2 = TARGETS["x86-64-v2"]
NVPTX = replace(V2, name="sm_80", triple="nvptx64-nvidia-cuda", cpu="sm_80")


def constant(value: int) -> CodegenUnit:
    text = f"define i64 @get() nounwind {{\n ret i64 {value}\n}}\n"
    return CodegenUnit(f"constant {value}", text, V2)


def call(product: bytes) -> int:
    code = LinkedCode([product], ["get"])
    return ctypes.CFUNCTYPE(ctypes.c_int64)(code.address("get"))()


def slow(steps: int = 30_000) -> CodegenUnit:
    """One basic block that takes seconds to schedule."""
    lines = [
        f" %v{i + 1} = call double @llvm.fmuladd.f64(double %v{i}, double %v{i // 2}, "
        f"double %v{i // 3})"
        for i in range(steps)
    ]
    body = "\n".join(lines)
    return CodegenUnit(
        "slow one",
        "declare double @llvm.fmuladd.f64(double, double, double)\n"
        f"define double @f(double %v0) {{\n{body}\n ret double %v{steps}\n}}\n",
        V2,
        codegen=3,
    )


@pytest.fixture
def generator() -> Iterator[CodeGenerator]:
    made = CodeGenerator(CodegenSettings(workers=2))
    yield made
    made.close()


def test_products_come_in_order(generator: CodeGenerator) -> None:
    wanted = [3, 1, 3, 2, 1, *range(40)]
    products = generator.compile([constant(value) for value in wanted])
    assert [call(product) for product in products] == wanted
    assert generator.compile([]) == []


def test_progress_counts_different_units(generator: CodeGenerator) -> None:
    seen: list[tuple[int, int]] = []
    units = [constant(value) for value in (1, 2, 1)]
    generator.compile(units, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 2), (1, 2), (2, 2)]


CRASHES = {
    # LLVM stops the whole process on each of these; the text after the name is its complaint.
    "cannot select: NVPTX barrier on x86": (
        "declare i32 @llvm.nvvm.barrier0.popc(i32)\ndefine i32 @f() {\n"
        " %x = call i32 @llvm.nvvm.barrier0.popc(i32 3)\n ret i32 %x\n}\n",
        "SIGABRT",
    ),
    "cannot split: AVX-512 intrinsic on v2": (
        "declare <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32>, <64 x i8>, <64 x i8>)\n"
        "define <16 x i32> @f(<16 x i32> %a, <64 x i8> %b) {\n %x = call <16 x i32> "
        "@llvm.x86.avx512.vpdpbusd.512(<16 x i32> %a, <64 x i8> %b, <64 x i8> %b)\n"
        " ret <16 x i32> %x\n}\n",
        "split",
    ),
    "bad inline assembly": (
        'define void @f() {\n call void asm "bogus_insn", ""()\n ret void\n}\n',
        "bogus_insn",
    ),
}


@pytest.mark.parametrize("name", list(CRASHES))
def test_a_crash_of_llvm_is_an_error_here(generator: CodeGenerator, name: str) -> None:
    text, complaint = CRASHES[name]
    with pytest.raises(CodegenError) as caught:
        generator.compile([CodegenUnit(name, text, V2), *map(constant, range(4))])
    assert f"crashed on module {name!r}" in str(caught.value)
    assert complaint in str(caught.value)
    assert call(generator.compile([constant(5)])[0]) == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rubbish", ["expected top-level entity", "1:1"]),
        ("define i64 @f() {\n ret i32 1\n}", ["2:"]),
        ("define i64 @f() {\n %x = add i64 %y, 1\n ret i64 %x\n}", ["%y"]),
        ("define float @f() {\n %x = call float @nowhere()\n ret float %x\n}", ["nowhere"]),
    ],
)
def test_text_that_llvm_refuses(generator: CodeGenerator, text: str, words: list[str]) -> None:
    for inprocess in (False, True):
        tool = CodeGenerator(CodegenSettings(workers=1, inprocess=True)) if inprocess else generator
        with pytest.raises(CodegenError) as caught:
            tool.compile([CodegenUnit("kernel 7", text, V2)])
        assert "'kernel 7'" in str(caught.value)
        for word in words:
            assert word in str(caught.value)


def test_unknown_targets_are_refused(generator: CodeGenerator) -> None:
    strange = replace(V2, triple="z80-nowhere-cpm")
    with pytest.raises(CodegenError, match="z80-nowhere-cpm"):
        generator.compile([replace(constant(1), target=strange)])


def test_time_limit() -> None:
    with_limit = CodeGenerator(CodegenSettings(workers=1, timeout_s=0.3))
    start = time.monotonic()
    with pytest.raises(CodegenError, match=r"'slow one' took more than the limit of 0\.3 s"):
        with_limit.compile([slow()])
    assert time.monotonic() - start < 3
    with_limit.close()


def test_memory_limit() -> None:
    big = '@x = global [400000000 x i8] zeroinitializer, section ".data"\n'
    with_limit = CodeGenerator(CodegenSettings(workers=1, memory_bytes=100 << 20))
    with pytest.raises(CodegenError, match=r"memory limit 104857600 .*out of memory") as caught:
        with_limit.compile([CodegenUnit("big", big, V2)])
    assert "\n" not in str(caught.value).split("out of memory")[0]
    assert call(with_limit.compile([constant(9)])[0]) == 9
    with_limit.close()


def test_cancel_and_deadline(generator: CodeGenerator) -> None:
    cancel = threading.Event()
    threading.Timer(0.3, cancel.set).start()
    start = time.monotonic()
    with pytest.raises(CodegenError, match="cancelled at module 'slow one'"):
        generator.compile([slow()], cancel=cancel)
    with pytest.raises(CodegenError, match="ran out of time at module 'slow one'"):
        generator.compile([slow()], deadline=time.monotonic() + 0.3)
    assert time.monotonic() - start < 4
    with pytest.raises(CodegenError, match="cancelled"):
        CodeGenerator(CodegenSettings(inprocess=True)).compile([constant(1)], cancel=cancel)
    assert call(generator.compile([constant(2)])[0]) == 2


def test_an_exception_in_progress_leaves_a_working_generator(generator: CodeGenerator) -> None:
    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generator.compile([constant(1), slow()], progress=stop)
    assert call(generator.compile([constant(3)])[0]) == 3


def test_idle_workers_exit_and_come_back() -> None:
    brief = CodeGenerator(CodegenSettings(workers=1, idle_s=0.1))
    brief.compile([constant(1)])
    (one,) = brief._pool._idle
    assert one.process.wait(timeout=10) == 0
    assert call(brief.compile([constant(2)])[0]) == 2
    brief.close()


def test_a_killed_idle_worker_is_replaced(generator: CodeGenerator) -> None:
    generator.compile([constant(1)])
    for one in generator._pool._idle:
        os.kill(one.process.pid, signal.SIGKILL)
        one.process.wait(timeout=10)
    assert call(generator.compile([constant(2)])[0]) == 2


def test_a_worker_that_is_killed_at_work_is_an_error(generator: CodeGenerator) -> None:
    generator.compile([constant(1)])
    (one,) = generator._pool._idle
    threading.Timer(0.3, os.kill, (one.process.pid, signal.SIGKILL)).start()
    with pytest.raises(CodegenError, match=r"'slow one' \(SIGKILL"):
        generator.compile([slow()])


def test_work_goes_to_several_processes_at_once() -> None:
    pair = CodeGenerator(CodegenSettings(workers=2))
    units = [replace(slow(3_000 + i), name=str(i)) for i in range(2)]
    pair.compile(units)
    assert len({one.process.pid for one in pair._pool._idle}) == 2
    pair.close()


def test_workers_are_limited_like_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowering.runtime.threads.cgroup_quota", lambda root: 1.5)
    assert CodeGenerator()._pool.size == 1
    assert CodeGenerator(CodegenSettings(workers=3))._pool.size == 3


def test_threads_share_a_generator(generator: CodeGenerator) -> None:
    results: dict[int, int] = {}

    def work(value: int) -> None:
        results[value] = call(generator.compile([constant(value)])[0])

    threads = [threading.Thread(target=work, args=(value,)) for value in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {value: value for value in range(8)}


def test_a_forked_child_has_its_own_workers(generator: CodeGenerator) -> None:
    generator.compile([constant(1)])
    mine = {one.process.pid for one in generator._pool._idle}
    child = os.fork()
    if child == 0:
        good = call(generator.compile([constant(2)])[0]) == 2
        apart = mine.isdisjoint(one.process.pid for one in generator._pool._idle)
        generator.close()
        os._exit(0 if good and apart else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert call(generator.compile([constant(3)])[0]) == 3
    assert mine == {one.process.pid for one in generator._pool._idle}


def test_modules_in_the_working_directory_are_not_imported(
    generator: CodeGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('hijacked')")
    (tmp_path / "llvmlite.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    assert call(generator.compile([constant(4)])[0]) == 4


def test_in_process_code_is_the_same(generator: CodeGenerator) -> None:
    units = [constant(1), replace(slow(200), passes=2), replace(constant(2), emit="asm")]
    inside = CodeGenerator(CodegenSettings(inprocess=True))
    assert inside.compile(units) == generator.compile(units)


def test_text_products(generator: CodeGenerator) -> None:
    loop = (
        "define i64 @f(i64 %n) {\nentry:\n br label %l\nl:\n"
        " %i = phi i64 [ 0, %entry ], [ %j, %l ]\n %j = add i64 %i, 1\n"
        " %c = icmp ult i64 %j, 10\n br i1 %c, label %l, label %x\nx:\n ret i64 %j\n}\n"
    )
    plain, optimized, assembly, ptx = generator.compile(
        [
            CodegenUnit("p", loop, V2, emit="llvm"),
            CodegenUnit("o", loop, V2, emit="llvm", passes=2),
            CodegenUnit("a", loop, V2, emit="asm", passes=2),
            CodegenUnit("g", "define void @k() {\n ret void\n}\n", NVPTX, emit="asm"),
        ]
    )
    assert b"phi i64" in plain
    assert b"phi" not in optimized
    assert b"ret i64 10" in optimized
    assert b"$10" in assembly
    assert b".target sm_80" in ptx


MEMORY = """
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memmove.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
define void @f(ptr %a, ptr %b, i64 %n) {
 call void @llvm.memcpy.p0.p0.i64(ptr %a, ptr %b, i64 %n, i1 false)
 call void @llvm.memmove.p0.p0.i64(ptr %a, ptr %b, i64 %n, i1 false)
 call void @llvm.memset.p0.i64(ptr %a, i8 0, i64 %n, i1 false)
 ret void
}
"""
LIBRARY_CALLS = {
    # What LLVM makes library calls of, on every target or some.
    "sinf": "declare float @llvm.sin.f32(float)\ndefine float @f(float %x) {\n"
    " %y = call float @llvm.sin.f32(float %x)\n ret float %y\n}\n",
    "fmodf": "define float @f(float %x) {\n %y = frem float %x, 3.0\n ret float %y\n}\n",
    "__truncsfbf2": "define bfloat @f(float %x) {\n %y = fptrunc float %x to bfloat\n"
    " ret bfloat %y\n}\n",
}


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_objects_of_every_target_import_only_what_is_listed(
    generator: CodeGenerator, name: str
) -> None:
    (product,) = generator.compile([CodegenUnit("memory", MEMORY, TARGETS[name])])
    symbols = read_symbols(product)
    assert symbols.undefined == ALLOWED_IMPORTS == {"memcpy", "memmove", "memset"}
    assert symbols.defined == {"f"}


@pytest.mark.parametrize("symbol", sorted(LIBRARY_CALLS))
def test_library_calls_are_refused_unless_declared(generator: CodeGenerator, symbol: str) -> None:
    unit = CodegenUnit("m", LIBRARY_CALLS[symbol], V2)
    with pytest.raises(CodegenError, match=f"module 'm' imports {symbol}; compiled code may only"):
        generator.compile([unit])
    (product,) = generator.compile([replace(unit, host_symbols=(symbol,))])
    assert read_symbols(product).undefined == {symbol}


def test_elf_reader_refuses_damage(generator: CodeGenerator) -> None:
    (product,) = generator.compile([constant(1)])
    for size in range(0, len(product), 7):
        try:
            read_symbols(product[:size])
        except CodegenError:
            continue
        pytest.fail(f"{size} of {len(product)} bytes were taken for a whole object")


def test_frames_round_trip() -> None:
    frame = worker.encode_request(constant(1).request(), b"text")
    head, body = worker.FRAME.unpack_from(frame)
    assert len(frame) == worker.FRAME.size + head + body
    assert frame.endswith(b"text")
