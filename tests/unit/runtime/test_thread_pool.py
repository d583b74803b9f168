"""The native pool: every unit once, limits, sharing, floating-point mode, profile."""

import ctypes
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_programs import TARGET, add_executable, add_module, object_of

from lowering.cpu.text import Module, Text
from lowering.runtime.abi import ABI_VERSION, ALLOC, LOG, HostContext, TorshHost
from lowering.runtime.elf import read_symbols
from lowering.runtime.executable import Executable, Program, RunOptions
from lowering.runtime.host import native_host
from lowering.runtime.link import LinkedCode
from lowering.runtime.pool_ir import HOST_IMPORTS, host_text
from lowering.runtime.spec import KernelSpec
from torsh_dialect.errors import UnsupportedError
from torsh_dialect.target import TARGETS

KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 3)
PARALLEL = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_int64)


def parallel(kernel: object, args: int, n: int, grain: int, threads: int, flush: int = 0) -> None:
    """Run a kernel through the native pool."""
    state = HostContext(flush)
    address = native_host().parallel
    host = TorshHost(ABI_VERSION, threads, address, ALLOC(), LOG(), ctypes.addressof(state))
    PARALLEL(address)(ctypes.addressof(host), kernel, args, n, grain)


@pytest.fixture(scope="module", name="counting")
def counting_fixture() -> LinkedCode:
    return counting_kernel()


def counting_kernel() -> LinkedCode:
    """Kernel: words[0][i] += 1 for its units, words[1][worker] += 1, atomically."""
    module = Module()
    kernel = Text(module, "count")
    units, workers = kernel.argument(0), kernel.argument(1)

    def body(i: str, _: list[str]) -> None:
        kernel.let(f"atomicrmw add ptr {kernel.at(units, i, 'i64')}, i64 1 monotonic")

    kernel.loop("%lo", "%hi", 1, body)
    kernel.let(f"atomicrmw add ptr {kernel.at(workers, '%worker', 'i64')}, i64 1 monotonic")
    kernel.finish()
    return LinkedCode([object_of(module.text())], ["count"])


def count_units(code: LinkedCode, n: int, grain: int, threads: int) -> tuple[np.ndarray, int]:
    units, workers = np.zeros(n + 1, np.int64), np.zeros(threads + 64, np.int64)
    args = np.array([units.ctypes.data, workers.ctypes.data], np.uint64)
    parallel(code.address("count"), args.ctypes.data, n, grain, threads)
    assert not workers[threads:].any(), "a worker number is not below threads"
    return units, int(workers.sum())


@settings(max_examples=200, deadline=None)
@given(n=st.integers(0, 300), grain=st.integers(-1, 400), threads=st.integers(1, 9))
def test_every_unit_runs_once(counting: LinkedCode, n: int, grain: int, threads: int) -> None:
    units, calls = count_units(counting, n, grain, threads)
    assert units[:n].tolist() == [1] * n
    assert units[n] == 0
    if threads == 1 or n <= max(grain, 1):
        assert calls == min(n, 1)


@pytest.mark.parametrize("grain", [1, 2**62, 2**63 - 1])
def test_extreme_grains(counting: LinkedCode, grain: int) -> None:
    units, _ = count_units(counting, 1000, grain, 3)
    assert units[:1000].tolist() == [1] * 1000


def test_many_small_jobs_in_a_row(counting: LinkedCode) -> None:
    for n in range(2, 3000):
        units, _ = count_units(counting, n % 37 + 2, 1, n % 4 + 1)
        assert (units[:-1] == 1).all()


def test_concurrent_callers(counting: LinkedCode) -> None:
    bad: list[int] = []

    def work() -> None:
        for n in range(2, 800):
            if not (count_units(counting, n, 1, 2)[0][:n] == 1).all():
                bad.append(n)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not bad


def test_two_threads_really_run_at_once() -> None:
    together = threading.Barrier(2, timeout=10)
    numbers: set[int] = set()

    def kernel(args: int, lo: int, hi: int, worker: int) -> None:
        if worker not in numbers:
            numbers.add(worker)
            together.wait()

    callback = KERNEL(kernel)
    parallel(callback, 0, 2, 1, 2)
    assert numbers == {0, 1}


def test_work_under_the_grain_stays_with_the_caller() -> None:
    seen: list[tuple[int, int, int, int]] = []

    def kernel(args: int, lo: int, hi: int, worker: int) -> None:
        seen.append((threading.get_native_id(), lo, hi, worker))

    callback = KERNEL(kernel)
    parallel(callback, 0, 64, 64, 4)
    assert seen == [(threading.get_native_id(), 0, 64, 0)]


def test_a_busy_pool_makes_the_second_caller_run_alone() -> None:
    inside, leave = threading.Event(), threading.Event()

    def slow(args: int, lo: int, hi: int, worker: int) -> None:
        inside.set()
        leave.wait(10)

    seen: list[tuple[int, int, int]] = []
    slow_kernel = KERNEL(slow)
    quick_kernel = KERNEL(lambda args, lo, hi, worker: seen.append((lo, hi, worker)))
    first = threading.Thread(target=parallel, args=(slow_kernel, 0, 8, 1, 2))
    first.start()
    inside.wait(10)
    parallel(quick_kernel, 0, 100, 1, 2)
    leave.set()
    first.join()
    assert seen == [(0, 100, 0)]


DENORMAL = np.float32(1e-40)


@pytest.mark.parametrize("threads", [1, 2])
def test_denormals_are_kept_or_flushed_in_every_thread(threads: int) -> None:
    inputs = [np.full(4096, DENORMAL), np.zeros(4096, np.float32)]
    for _ in range(20):
        assert (add_executable(threads).run(inputs)[0] == DENORMAL).all()
        flushed = add_executable(threads, flush=True).run(inputs)[0]
        assert (flushed.view(np.int32) == 0).all()
        assert DENORMAL * np.float32(1) == DENORMAL, "the caller's mode was not restored"


def test_results_do_not_depend_on_the_callers_mode() -> None:
    module = Module()
    module.declare("llvm.x86.sse.ldmxcsr", "void", ["ptr"])
    text = Text(module, "set_mode", "i32 %mode")
    slot = text.alloca("i32", align=4)
    text.store("i32", "%mode", slot)
    text.put(f"call void @llvm.x86.sse.ldmxcsr(ptr {slot})")
    text.finish()
    code = LinkedCode([object_of(module.text())], ["set_mode"])
    set_mode = ctypes.CFUNCTYPE(None, ctypes.c_int32)(code.address("set_mode"))
    executable = add_executable(2)
    a, b = np.full(4096, DENORMAL), np.zeros(4096, np.float32)
    y = np.zeros(4096, np.float32)
    call = executable.bind([a, b], [y])
    set_mode(0x1F80 | 0x8040)
    try:
        call()
    finally:
        set_mode(0x1F80)
    assert (y == DENORMAL).all()


def test_the_pool_starts_no_more_threads_than_asked_for(counting: LinkedCode) -> None:
    count_units(counting, 1000, 1, 5)
    host = native_host()
    least = 0 if host.uses_gomp else 1  # torch in this process: its OpenMP team does the work
    assert least <= host.workers() <= 8


def test_profile_names_kernels_and_adds_up() -> None:
    spec = add_executable().program.spec
    kernel = KernelSpec("add_kernel", ("model.add (model.py:3)",))
    with_kernels = spec.__class__(spec.entries, kernels=(kernel,), target=TARGET.name)
    program = Program(with_kernels, [object_of(add_module())])
    n = 1_000_000
    start = time.perf_counter_ns()
    profile = Executable(program, options=RunOptions(threads=2)).profile([np.ones(n, "f4")] * 2)
    elapsed = time.perf_counter_ns() - start
    (run,) = profile.runs
    assert (run.kernel, run.units, run.start_ns) == (kernel, n, 0)
    assert 0 < run.duration_ns <= profile.total_ns <= elapsed
    assert "add_kernel  <- model.add (model.py:3)" in profile.table()
    (event,) = profile.trace()["traceEvents"]
    assert event["dur"] == run.duration_ns / 1e3


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_the_pool_imports_only_what_is_listed(name: str) -> None:
    text = host_text(TARGETS[name].triple)
    from lowering import worker

    worker.initialize_llvm()
    request = worker.Request("host", TARGETS[name].triple, TARGETS[name].cpu)
    assert read_symbols(worker.generate(request, text)).undefined == HOST_IMPORTS


def test_other_systems_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="riscv64"):
        host_text("riscv64-unknown-linux-gnu")
    with pytest.raises(UnsupportedError, match="darwin"):
        host_text("x86_64-apple-darwin")
