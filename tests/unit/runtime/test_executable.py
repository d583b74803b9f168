"""Calls of linked programs against numpy: values, shapes, refusals, lifetimes, threads."""

import gc
import threading

import numpy as np
import pytest
from runtime_programs import ADD_SPEC, add_executable, add_module, add_program, object_of

from lowering.runtime.executable import Executable, Program, RunOptions
from torsh_dialect.errors import CodegenError, InputError, InvalidArgumentError


def arrays(n: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(n, dtype=np.float32) for _ in range(2)]


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 1000, 100_003])
def test_run_equals_numpy(threads: int, n: int) -> None:
    executable = add_executable(threads)
    a, b = arrays(n)
    assert np.array_equal(executable.run([a, b])[0], a + b)
    assert np.array_equal(executable.run({"b": b, "a": a})[0], a + b)


def test_run_into_follows_data_and_arrays() -> None:
    executable = add_executable()
    for n in (5, 9, 5):
        a, b = arrays(n, seed=n)
        y, z = np.zeros(n, np.float32), np.zeros(n, np.float32)
        executable.run_into([a, b], [y])
        a[:] = 1
        executable.run_into([a, b], [y])
        executable.run_into([a, b], [z])
        assert np.array_equal(y, 1 + b)
        assert np.array_equal(z, 1 + b)


def test_non_contiguous_and_read_only_inputs() -> None:
    executable = add_executable()
    a, b = arrays(20)
    b.flags.writeable = False
    y = np.zeros(10, np.float32)
    for _ in range(2):
        executable.run_into([a[::2], b[:10]], [y])
        assert np.array_equal(y, a[::2] + b[:10])
        a += 1


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([np.zeros(3, "f4")], ["1 inputs", "2 are needed", "a, b"]),
        ([np.zeros(3, "f4"), np.zeros(4, "f4")], ["'b'", "axis 0", "4", "n = 3", "'a'"]),
        ([np.zeros(3), np.zeros(3, "f4")], ["'a'", "float64", "float32"]),
        ([np.zeros(3, ">f4"), np.zeros(3, "f4")], ["'a'", ">f4", "float32"]),
        ([np.zeros((3, 1), "f4"), np.zeros(3, "f4")], ["'a'", "rank 2", "f32[n]"]),
        ([[1.0], np.zeros(1, "f4")], ["'a'", "list"]),
        ([np.zeros(1_000_001, "f4")] * 2, ["add.py:3", "1000001", "limit 1000000"]),
        ([np.zeros(2_000_001, "f4")] * 2, ["n is 2000001", "0..2000000"]),
        ({"a": np.zeros(1, "f4"), "c": np.zeros(1, "f4")}, ["'c'", "'b' is missing"]),
    ],
)
def test_wrong_inputs_are_refused_by_name(inputs, words: list[str]) -> None:
    executable = add_executable()
    with pytest.raises(InputError) as caught:
        executable.run(inputs)
    for word in words:
        assert word in str(caught.value)
    assert executable.run([np.ones(2, "f4")] * 2)[0].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("output", "word"),
    [
        (np.zeros(4, "f4"), "float32[4]"),
        (np.zeros(3, "f8"), "float64[3]"),
        (np.zeros(6, "f4")[::2], "contiguous"),
    ],
)
def test_wrong_outputs_are_refused(output: np.ndarray, word: str) -> None:
    executable = add_executable()
    with pytest.raises(InvalidArgumentError) as caught:
        executable.run_into(arrays(3), [output])
    assert word in str(caught.value)
    with pytest.raises(InvalidArgumentError, match="1 are needed"):
        executable.run_into(arrays(3), [])


def test_outputs_may_not_overlap_inputs() -> None:
    executable = add_executable()
    a, b = arrays(8)
    with pytest.raises(InvalidArgumentError, match="'y' overlaps"):
        executable.run_into([a, b], [a])
    a.flags.writeable = False
    with pytest.raises(InvalidArgumentError, match="writable"):
        executable.run_into([b, b], [a])


def test_arrays_changed_in_place_are_seen() -> None:
    executable = add_executable()
    a, b = arrays(8)
    y = np.zeros(8, np.float32)
    executable.run_into([a, b], [y])
    a.shape = (2, 4)
    with pytest.raises(InputError, match="rank 2"):
        executable.run_into([a, b], [y])


def test_bound_call() -> None:
    executable = add_executable()
    a, b = arrays(6)
    y = np.zeros(6, np.float32)
    call = executable.bind([a, b], [y])
    del executable
    gc.collect()
    for value in (1, 2):
        a[:] = value
        call()
        assert np.array_equal(y, value + b)
    with pytest.raises(InvalidArgumentError, match="contiguous"):
        add_executable().bind([np.zeros(6, "f4")[::2], b[:3]], [y[:3]])


def test_overlapping_calls_from_many_threads() -> None:
    executable = add_executable(2)
    wrong: list[int] = []

    def work(seed: int) -> None:
        for n in range(1, 400, 3):
            a, b = arrays(n, seed)
            if not np.array_equal(executable.run([a, b])[0], a + b):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_objects_that_do_not_fit_are_refused() -> None:
    with pytest.raises(CodegenError, match="do not define torsh_plan, torsh_run"):
        Program(ADD_SPEC, [object_of("define void @f() nounwind {\n ret void\n}\n")])
    with pytest.raises(CodegenError, match="ELF64"):
        Program(ADD_SPEC, [object_of(add_module())[:200]])
    with pytest.raises(InvalidArgumentError, match="no entry 'other'; it has: main"):
        Executable(add_program(), "other", RunOptions(threads=1))
