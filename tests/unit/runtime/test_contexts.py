"""Arena growth, records of many shapes, status codes, ranks and element types."""

import ctypes
import logging
import threading
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from runtime_programs import (
    ADD_SPEC,
    CALL,
    RUN,
    TARGET,
    add_executable,
    add_module,
    entry_of,
    object_of,
    word,
)

from lowering.cpu.text import Module, Text
from lowering.runtime import EntrySpec, Executable, Program, ProgramSpec, RunOptions, TensorSpec
from lowering.runtime.abi import ABI_VERSION
from lowering.runtime.host import native_host
from lowering.runtime.signature import Signature
from torsh_dialect.errors import ExecutionError, InputError

ONE = RunOptions(threads=1)


def copy_module(rank: int, element_bytes: int, scratch: bool = False) -> str:
    """`y = x` for any dtype; with `scratch`, the last byte of scratch is written first."""
    module = Module()
    plan = Text(module, "torsh_plan", CALL, "i32")
    for axis in range(rank):
        extent = entry_of(word(plan, 1), axis, plan, "i64")
        plan.store("i64", extent, plan.at(word(plan, 3), axis, "i64"), 8)
    plan.store("i64", "100", plan.at("%call", 6, "i64"), 8)
    plan.finish("0")
    run = Text(module, "torsh_run", RUN, "i32")
    count = str(element_bytes)
    for axis in range(rank):
        count = run.mul(count, entry_of(word(run, 1), axis, run, "i64"))
    if scratch:
        run.store("i8", "7", run.at(word(run, 5), 128 + 4096 * 2 - 1, "i8"), 1)
    name = module.declare("llvm.memcpy.p0.p0.i64", "void", ("ptr", "ptr", "i64", "i1"))
    x, y = entry_of(word(run, 0), 0, run), entry_of(word(run, 2), 0, run)
    run.put(f"call void {name}(ptr {y}, ptr {x}, i64 {count}, i1 false)")
    run.finish("0")
    return module.text()


def copy_executable(dtype: str, dims: tuple[str, ...], element_bytes: int) -> Executable:
    entry = EntrySpec(
        inputs=(TensorSpec("x", dtype, dims),), outputs=(TensorSpec("y", dtype, dims),)
    )
    spec = ProgramSpec((entry,), target=TARGET.name)
    return Executable(
        Program(spec, [object_of(copy_module(len(dims), element_bytes))]), options=ONE
    )


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("bf16", ml_dtypes.bfloat16),
        ("f8e4m3fn", ml_dtypes.float8_e4m3fn),
        ("i4", ml_dtypes.int4),
        ("bool", np.bool_),
        ("f16", np.float16),
        ("ui8", np.uint8),
        ("i64", np.int64),
        ("c128", np.complex128),
    ],
)
@pytest.mark.parametrize("shape", [(), (3,), (2, 0, 3), (2, 3, 4, 1)])
def test_every_kind_of_array_goes_through(name: str, dtype: type, shape: tuple[int, ...]) -> None:
    dims = tuple(f"d{axis}" for axis in range(len(shape)))
    executable = copy_executable(name, dims, np.dtype(dtype).itemsize)
    x = (np.arange(np.prod(shape, dtype=int)) % 2).reshape(shape).astype(dtype)
    (y,) = executable.run([x])
    assert y.dtype == x.dtype
    assert y.shape == x.shape
    assert y.tobytes() == x.tobytes()
    turned = x.copy(order="F")
    assert executable.run([turned])[0].tobytes() == x.tobytes()


def test_extents_are_expressions() -> None:
    entry = EntrySpec(
        inputs=(
            TensorSpec("x", "f32", ("n", 4)),
            TensorSpec("m", "f32", ("2*n + 1", "floordiv(n, 2)")),
        ),
        outputs=(),
    )
    check = Signature(entry).check
    assert check([(6, 4), (13, 3)]) == {"n": 6}
    with pytest.raises(
        InputError, match=r"'m' has extent 12 at axis 0, not 2\*n \+ 1 = 13 \(n is 6"
    ):
        check([(6, 4), (12, 3)])
    with pytest.raises(InputError, match=r"'m' has extent 2 at axis 1, not floordiv\(n, 2\) = 3"):
        check([(6, 4), (13, 2)])
    with pytest.raises(InputError, match="'x' has extent 5 at axis 1, not 4"):
        check([(6, 5), (13, 3)])


def test_the_arena_grows_to_the_largest_need_and_no_further() -> None:
    executable = add_executable()
    sizes = []
    for n in (100, 1000, 10, 1000, 100):
        a = np.ones(n, np.float32)
        assert (executable.run([a, a])[0] == 2).all()
        (context,) = executable._idle
        sizes.append(context.arena.nbytes)
        assert context.arena.ctypes.data % 64 == 0
    assert sizes == [448, 4032, 4032, 4032, 4032]
    executable.trim()
    assert not executable._idle


def test_records_of_old_shapes_are_forgotten() -> None:
    executable = add_executable()
    for turn in range(2):
        for n in range(100):
            a = np.full(n, turn, np.float32)
            assert (executable.run([a, a])[0] == 2 * turn).all()
    (context,) = executable._idle
    assert len(context.records) == 16
    assert context.plans == 200
    for _ in range(50):
        executable.run([a, a])
    assert context.plans == 200


def test_contexts_are_as_many_as_calls_at_once() -> None:
    executable = add_executable()
    a = np.ones(100_000, np.float32)
    for _ in range(20):
        executable.run([a, a])
    assert len(executable._idle) == 1
    threads = [threading.Thread(target=executable.run, args=([a, a],)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(executable._idle) <= 8


@pytest.mark.parametrize("size", [1 << 50, (1 << 63) - 1, -(1 << 40)])
def test_absurd_arenas_are_refused(size: int) -> None:
    executable = add_executable(arena=size)
    with pytest.raises(ExecutionError, match="more than a process can have"):
        executable.run([np.ones(2, np.float32)] * 2)


def test_scratch_lies_behind_the_arena_for_each_thread() -> None:
    entry = EntrySpec(
        inputs=(TensorSpec("x", "f32", ("n",)),),
        outputs=(TensorSpec("y", "f32", ("n",)),),
        scratch_bytes=4096,
    )
    spec = ProgramSpec((entry,), target=TARGET.name)
    program = Program(spec, [object_of(copy_module(1, 4, scratch=True))])
    executable = Executable(program, options=RunOptions(threads=2))
    x = np.arange(4, dtype=np.float32)
    if executable.threads == 2:
        assert np.array_equal(executable.run([x])[0], x)
        assert executable._idle[0].arena.nbytes == 128 + 2 * 4096
        assert executable._idle[0].arena[-1] == 7


def test_a_status_without_a_check_is_an_error() -> None:
    entry = replace(ADD_SPEC.entries[0], checks=())
    spec = replace(ADD_SPEC, entries=(entry,))
    executable = Executable(Program(spec, [object_of(add_module())]), options=ONE)
    with pytest.raises(ExecutionError, match="status 1, which it never gives"):
        executable.run([np.ones(1_000_001, np.float32)] * 2)


def test_another_abi_is_refused() -> None:
    executable = add_executable()
    a, y = np.ones(3, np.float32), np.zeros(3, np.float32)
    call = executable.bind([a, a.copy()], [y])
    call._context.host.abi_version = ABI_VERSION + 1
    with pytest.raises(ExecutionError, match=f"not compiled for host ABI {ABI_VERSION}"):
        call()
    assert not y.any()


def test_log_of_the_host_reaches_python(caplog: pytest.LogCaptureFixture) -> None:
    module = Module()
    text = "loop ran 3 times"
    module.constant("message", f"[{len(text) + 1} x i8]", f'c"{text}\\00"')
    plan = Text(module, "torsh_plan", CALL, "i32")
    plan.store("i64", "0", plan.at("%call", 6, "i64"), 8)
    plan.finish("0")
    run = Text(module, "torsh_run", RUN, "i32")
    log = run.load("ptr", run.let("getelementptr i8, ptr %host, i64 24"), 8)
    context = run.load("ptr", run.let("getelementptr i8, ptr %host, i64 32"), 8)
    run.put(f"call void {log}(ptr {context}, i32 30, ptr @message)")
    run.finish("0")
    spec = ProgramSpec((EntrySpec(),), target=TARGET.name)
    executable = Executable(Program(spec, [object_of(module.text())]), options=ONE)
    with caplog.at_level(logging.WARNING, "torsh"):
        assert executable.run([]) == []
    assert [(r.levelname, r.message) for r in caplog.records] == [("WARNING", text)]


def test_one_host_for_threads_that_ask_at_once() -> None:
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(id(native_host()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1


def test_record_addresses_are_words() -> None:
    executable = add_executable()
    a = np.ones(3, np.float32)
    call = executable.bind([a, a.copy()], [np.zeros(3, np.float32)])
    frame = (ctypes.c_uint64 * 3).from_address(call.frame_address)
    record = (ctypes.c_uint64 * 8).from_address(frame[2])
    inputs = (ctypes.c_uint64 * 2).from_address(record[0])
    assert inputs[0] == a.ctypes.data
    assert (ctypes.c_int64 * 2).from_address(record[1])[:] == [3, 3]
    assert (ctypes.c_int64 * 1).from_address(record[3])[:] == [3]
