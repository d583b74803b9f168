"""Weights (prepare, swap, load, lifetimes) and outputs that the program asks memory for."""

import gc
import json
import subprocess
import sys
import threading
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from runtime_programs import (
    ADD_SPEC,
    IOTA_SPEC,
    SCALE_SPEC,
    TARGET,
    add_module,
    generator,
    iota_executable,
    object_of,
    scale_module,
    scale_program,
)

from lowering.codegen import host_unit
from lowering.runtime.contexts import aligned_bytes
from lowering.runtime.dtypes import DTYPE_NAMES, numpy_dtype
from lowering.runtime.executable import Executable, Program, RunOptions
from lowering.runtime.load import ProgramParts, load_program, read_parts, save_program
from lowering.runtime.machine import NEEDED_FLAGS, check_machine
from lowering.runtime.spec import ProgramSpec
from torsh_dialect.dtypes import DTYPES
from torsh_dialect.errors import ExecutionError, InputError, InvalidArgumentError
from torsh_dialect.target import TARGETS

ONE = RunOptions(threads=1)
X = np.arange(5, dtype=np.float32)


def scaled(program: Program) -> list[float]:
    return Executable(program, options=ONE).run([X])[0].tolist()


def test_prepare_makes_the_weights() -> None:
    program = scale_program(None)
    with pytest.raises(ExecutionError, match="no weights yet"):
        scaled(program)
    program.prepare({"r": np.array([1.5], np.float32)}, ONE)
    assert scaled(program) == (X * 3).tolist()
    with pytest.raises(InputError, match="'r' has dtype float64"):
        program.prepare({"r": np.array([1.5])}, ONE)
    assert scaled(program) == (X * 3).tolist()


def test_prepared_weights_are_aligned() -> None:
    program = scale_program(None)
    program.prepare([np.ones(1, np.float32)], ONE)
    assert program.weights is not None
    assert program.weights.arrays[0].ctypes.data % 64 == 0


def test_weights_swap_under_a_live_executable() -> None:
    program = scale_program(2)
    executable = Executable(program, options=ONE)
    y = np.zeros(5, np.float32)
    executable.run_into([X], [y])
    program.update_weights({"w": np.array([7], np.float32)})
    gc.collect()
    executable.run_into([X], [y])
    assert y.tolist() == (X * 7).tolist()
    for wrong in ({}, {"w": np.zeros(2, "f4")}, {"w": np.zeros(1)}, {"v": np.zeros(1, "f4")}):
        with pytest.raises(InvalidArgumentError, match="weight"):
            program.update_weights(wrong)
    executable.run_into([X], [y])
    assert y.tolist() == (X * 7).tolist()


def test_swap_while_threads_call() -> None:
    program = scale_program(1)
    executable = Executable(program, options=ONE)
    seen: set[float] = set()
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            y = executable.run([X])[0]
            factor = float(y[1])
            assert y.tolist() == (X * factor).tolist()
            seen.add(factor)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for value in range(2, 300):
        program.update_weights({"w": np.array([value], np.float32)})
    stop.set()
    for thread in threads:
        thread.join()
    assert seen <= set(range(1, 300))
    assert seen


def test_weights_live_as_long_as_they_are_used_and_no_longer() -> None:
    weight = aligned_bytes(4).view(np.float32)
    weight[:] = 4
    program = Program(SCALE_SPEC, [object_of(scale_module())], {"w": weight})
    executable = Executable(program, options=ONE)
    gone = weakref.ref(weight)
    del weight, program
    gc.collect()
    assert gone() is not None
    assert executable.run([X])[0].tolist() == (X * 4).tolist()
    del executable
    gc.collect()
    assert gone() is None


def test_executables_free_their_arena_without_a_collection() -> None:
    gc.disable()
    try:
        executable = iota_executable()
        executable.run([np.array([3])])
        gone = weakref.ref(executable)
        context = weakref.ref(executable._idle[0])
        del executable
        assert gone() is None
        assert context() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_data_dependent_output(count: int) -> None:
    (y,) = iota_executable().run([np.array([count])])
    assert y.dtype == np.int64
    assert np.array_equal(y, np.arange(count))


def test_refused_allocations_are_errors_and_leave_a_working_executable() -> None:
    executable = iota_executable()
    with pytest.raises(ExecutionError, match=r"shape \(17592186044416,\)"):
        executable.run([np.array([1 << 44])])
    with pytest.raises(ExecutionError, match="negative"):
        executable.run([np.array([-1])])
    assert executable.run([np.array([2])])[0].tolist() == [0, 1]
    with pytest.raises(InvalidArgumentError, match=r"depend on data; use run\(\)"):
        executable.run_into([np.array([2])], [np.zeros(2, np.int64)])


def test_saved_program_gives_the_same_bytes(tmp_path: Path) -> None:
    weight = np.array([np.pi], np.float32)
    spec = save_program(tmp_path / "p", SCALE_SPEC, [object_of(scale_module())], {"w": weight})
    assert ProgramSpec.from_json(spec.to_json()) == spec
    program = load_program(tmp_path / "p", verify=True)
    assert scaled(program) == (X * weight).tolist()
    assert program.weights is not None
    assert not program.weights.arrays[0].flags.owndata
    with pytest.raises(FileExistsError):
        save_program(tmp_path / "p", SCALE_SPEC, [], {})


def test_damaged_programs_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    weight = {"w": np.ones(1, np.float32)}
    save_program(folder, SCALE_SPEC, [object_of(scale_module())], weight)
    parts = read_parts(folder)
    with pytest.raises(ExecutionError, match="digest does not fit"):
        load_program(replace(parts, weights=b"\0" * 4), verify=True)
    with pytest.raises(ExecutionError, match="cut short"):
        load_program(replace(parts, weights=b"\0" * 3))
    with pytest.raises(ExecutionError, match="no compiled program"):
        load_program(tmp_path / "absent")
    for change, words in (
        ({"format_version": 99}, "format_version 99"),
        ({"abi_version": 0}, "abi_version 0"),
        ({"entries": 3}, "entries is not a list"),
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"target": "x86-64-v9"}, "unknown target 'x86-64-v9'"),
        ({"entries": [{"name": 1}]}, r"entries\[0\].name is 1"),
    ):
        text = json.dumps({**json.loads(parts.spec.to_json()), **change})
        (folder / "program.json").write_text(text)
        with pytest.raises(ExecutionError, match=words):
            load_program(folder)
    (folder / "program.json").write_text("{")
    with pytest.raises(ExecutionError, match="no JSON"):
        load_program(folder)


def test_offsets_outside_of_the_weights_are_refused() -> None:
    for offset in (-4, 1, 1 << 62):
        weights = (replace(SCALE_SPEC.weights[0], offset=offset),)
        parts = ProgramParts(replace(SCALE_SPEC, weights=weights), (), b"1234")
        with pytest.raises(ExecutionError, match="lies outside"):
            load_program(parts)


def test_missing_host_symbol_is_named() -> None:
    spec = replace(ADD_SPEC, host_symbols=("dgesv_",))
    with pytest.raises(InvalidArgumentError, match="dgesv_"):
        Program(spec, [object_of(add_module())])


def test_loading_imports_no_compiler(tmp_path: Path) -> None:
    (host,) = generator().compile([host_unit(TARGET)])
    save_program(tmp_path / "p", ADD_SPEC, [object_of(add_module())], {}, host)
    script = f"""
import sys
import numpy as np
from lowering.runtime.executable import Executable
from lowering.runtime.load import load_program
run = Executable(load_program({str(tmp_path / "p")!r})).run
assert run([np.ones(3, "f4"), np.ones(3, "f4")])[0].tolist() == [2, 2, 2]
heavy = {{"xdsl", "torch", "onnx", "ml_dtypes", "llvmlite"}} & set(sys.modules)
assert not heavy, heavy
assert not [name for name in sys.modules if name.startswith(("torsh_fx", "lowering.cpu"))]
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=60)


def test_dtype_names_mean_what_the_dialect_says() -> None:
    arrays = {row.name: row.numpy for row in DTYPES if row.name != "str"}
    assert {name: numpy_dtype(name) for name in DTYPE_NAMES} == arrays


def test_every_target_says_what_it_needs() -> None:
    assert set(NEEDED_FLAGS) == set(TARGETS)
    with pytest.raises(ExecutionError, match="lacks avx512bw, avx512cd"):
        check_machine("x86-64-v4", NEEDED_FLAGS["x86-64-v3"])
    check_machine("x86-64-v3", NEEDED_FLAGS["x86-64-v4"])


def test_specs_survive_json() -> None:
    for spec in (ADD_SPEC, SCALE_SPEC, IOTA_SPEC):
        assert ProgramSpec.from_json(spec.to_json()) == spec
