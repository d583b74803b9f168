"""Deterministic lifetimes: what a compiled model holds goes when it is closed, or forgotten."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import torsh_fx
from torsh_dialect.errors import ExecutionError
from torsh_fx.hosted import HostedModule
from torsh_fx.packaged import PackagedModel
from torsh_package import Package

WIDTH = 1024


def model_of(seed: int):
    """tanh(x @ w) with 4 MB of weights; x: f32[n, 1024]."""
    w = np.random.default_rng(seed).standard_normal((WIDTH, WIDTH)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Tanh", ["h"], ["y"]),
        ],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTH])],
        [numpy_helper.from_array(w, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


X = np.random.default_rng(1).standard_normal((4, WIDTH)).astype(np.float32)


@pytest.fixture
def no_collector():
    """Reference counts alone free memory here."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_a_forgotten_model_is_freed_at_once_and_without_the_collector():
    model = torsh_fx.compile(model_of(0))
    model.run([X])
    model.run_into([X], [np.empty_like(X)])
    model.profile(X)
    held = [model, model.executable, model.program, model.program.code, model.program.weights]
    references = [weakref.ref(one) for one in held if one is not None]
    assert len(references) == 5
    del held, model
    assert [one() for one in references] == [None] * 5


@pytest.mark.usefixtures("no_collector")
def test_close_frees_code_and_weights_while_the_model_is_still_known():
    with torsh_fx.compile(model_of(0)) as model:
        there = model.run([X])[0]
        code, weights = (weakref.ref(one) for one in (model.program.code, model.program.weights))
    assert (code(), weights()) == (None, None)
    assert there.shape == (4, WIDTH), "results are the caller's"
    for refused in (
        lambda: model.run([X]),
        lambda: model(X),
        lambda: model.run_into([X], [there]),
        lambda: model.profile(X),
        lambda: model.update_weights({}),
        lambda: model.graph,
        lambda: model.save("m.mlir"),
    ):
        with pytest.raises(ExecutionError, match="was closed"):
            refused()
    model.close()


def test_calls_that_run_while_the_model_is_closed_finish():
    model = torsh_fx.compile(model_of(0), threads=1)
    expected = model.run([X])[0].tobytes()
    started, outcomes = threading.Barrier(5), []

    def caller():
        started.wait()
        try:
            while True:
                outcomes.append(model.run([X])[0].tobytes() == expected)
        except ExecutionError as error:
            outcomes.append("was closed" in str(error))

    threads = [threading.Thread(target=caller) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.wait()
    while len(outcomes) < 8:
        pass
    model.close()
    for thread in threads:
        thread.join(timeout=60)
    assert all(outcomes)
    assert not any(thread.is_alive() for thread in threads)


def held_by_process() -> tuple[int, int, int]:
    """Anonymous memory in bytes, open files, executable mappings."""
    status = Path("/proc/self/status").read_text().splitlines()
    anonymous = next(int(row.split()[1]) for row in status if row.startswith("RssAnon")) << 10
    maps = Path("/proc/self/maps").read_text().splitlines()
    code = sum("x" in row.split()[1] for row in maps)
    return anonymous, len(os.listdir("/proc/self/fd")), code


HUNDRED = """
import gc, json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_lifetime import X, held_by_process, model_of
import torsh_fx

def call(count):
    for _ in range(count):
        with torsh_fx.compile(model) as compiled:
            compiled.run([X])
    gc.collect()
    return held_by_process()

model = model_of(0)
first = call(5)
models = [torsh_fx.compile(model) for _ in range(10)]
alive = held_by_process()
for one in models:
    one.close()
gc.collect()
closed = held_by_process()  # the allocator keeps some of their memory
print(json.dumps([first, alive, closed, call(100)]))
"""


def test_a_hundred_models_leave_nothing_behind():
    done = subprocess.run(
        [sys.executable, "-c", HUNDRED, Path(__file__).parent],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    first, alive, closed, after = json.loads(done.stdout)
    assert alive[0] - first[0] > 30 << 20, "the measurement misses the weights"
    assert alive[2] >= first[2] + 10, "the measurement misses the code"
    assert after[1:] == closed[1:] == first[1:]
    assert after[0] - closed[0] < 8 << 20, "100 models hold 800 MB"


def test_a_model_with_host_functions_closes_too():
    graph = helper.make_graph(
        [
            helper.make_node("SequenceConstruct", ["x", "x"], ["s"]),
            helper.make_node("SequenceAt", ["s", "i"], ["c"]),
            helper.make_node("Relu", ["c"], ["y"]),
        ],
        "sequences",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2]),
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    opsets = [helper.make_opsetid("", 20)]
    x, i = np.float32([1, -1]), np.array(1)
    with torsh_fx.compile(helper.make_model(graph, opset_imports=opsets, ir_version=9)) as model:
        assert isinstance(model, HostedModule)
        np.testing.assert_array_equal(model.run([x, i])[0], [1, 0])
        codes = [weakref.ref(native.program.code) for native in model.natives.values()]
    with pytest.raises(ExecutionError, match="was closed"):
        model.run([x, i])
    assert codes
    assert [code() for code in codes] == [None] * len(codes)


def test_a_packaged_model_closes_with_its_file(tmp_path: Path):
    path = tmp_path / "m.torshpkg"
    with torsh_fx.compile(model_of(0)) as compiled:
        expected = compiled.run([X])[0]
        compiled.save(path)
    gc.collect()
    _, files, code = held_by_process()
    with torsh_fx.load(path) as model:
        assert model.run([X])[0].tobytes() == expected.tobytes()
        assert held_by_process()[2] > code
        assert str(path) in Path("/proc/self/maps").read_text()
    for refused in (lambda: model.run([X]), lambda: model(X), lambda: model.session()(X)):
        with pytest.raises(ExecutionError, match="was closed"):
            refused()
    gc.collect()
    assert held_by_process()[1:] == (files, code)
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_a_package_that_was_given_stays_open(tmp_path: Path):
    path = tmp_path / "m.torshpkg"
    torsh_fx.compile(model_of(0)).save(path)
    with Package.load(path) as package:
        with PackagedModel(package):
            pass
        with PackagedModel(package) as model:
            assert model.run([X])[0].shape == (4, WIDTH)
