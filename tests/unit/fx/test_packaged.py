"""Models in packages: run without the compiler, replayed, with code for several targets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from lowering.runtime.machine import NEEDED_FLAGS, machine_flags
from torsh_dialect.context import Context
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.target import target_named
from torsh_fx.packaged import PackagedModel, load_package, runner
from torsh_fx.packaging import PackageOptions, build_package
from torsh_fx.sources import import_model
from torsh_package import Package
from torsh_package.replaying import replay

RNG = np.random.default_rng(5)
WEIGHTS = {
    "w": RNG.normal(size=(8, 3, 3, 3)).astype(np.float32),
    "b": RNG.normal(size=8).astype(np.float32),
}
TARGETS = [n for n in ("x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64")
           if NEEDED_FLAGS[n] <= machine_flags()]  # fmt: skip


def model() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(a, name) for name, a in WEIGHTS.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def sample(entry, number):
    rng = np.random.default_rng(number)
    return [rng.normal(size=(2, 3, 16, 16)).astype(np.float32) for _ in entry.inputs]


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("package") / "m.torshpkg"
    options = PackageOptions("conv-relu", "1.2.3", cases=2)
    imported = import_model(model(), Context())
    build_package(imported, [target_named(n) for n in TARGETS], options, sample).save(path)
    return path


def expected(x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model().SerializeToString())
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("target", TARGETS)
def test_every_targets_code_agrees_with_onnxruntime(saved, target):
    packaged = PackagedModel(Package.load(saved), target=target)
    x = RNG.normal(size=(3, 3, 16, 16)).astype(np.float32)
    np.testing.assert_allclose(packaged.run({"x": x})[0], expected(x), rtol=1e-5, atol=1e-5)


def test_weights_are_views_of_the_mapped_file(saved):
    packaged = load_package(saved)
    assert packaged.program.weights.arrays
    for array in packaged.program.weights.arrays:
        assert not array.flags.owndata
        assert not array.flags.writeable


def test_runs_without_compiler_and_frameworks(saved):
    code = f"""
import sys
import numpy as np
from torsh_fx.packaged import load_package
model = load_package({str(saved)!r})
x = np.full((2, 3, 16, 16), 0.25, np.float32)
sys.stdout.write(repr(float(model.run([x])[0].astype(np.float64).sum())))
heavy = {{"xdsl", "torch", "onnx", "onnxruntime", "llvmlite"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    x = np.full((2, 3, 16, 16), 0.25, np.float32)
    assert float(done.stdout) == pytest.approx(float(expected(x).astype(np.float64).sum()), 1e-5)


def test_golden_cases_replay(saved):
    results = replay(Package.load(saved), runner)
    assert len(results) == 2
    assert [r.problem for r in results] == [None, None]


def test_a_package_with_other_weights_does_not_replay(tmp_path):
    options = PackageOptions("conv-relu")
    package = build_package(import_model(model(), Context()), [target_named(TARGETS[0])], options,
                            sample)  # fmt: skip
    path = tmp_path / "m.torshpkg"
    package.save(path)
    changed = Package.load(path)
    packaged = PackagedModel(changed)
    spec = packaged.program.spec
    table = {s.name: a * 2 for s, a in zip(spec.weights, packaged.program.weights.arrays,
                                           strict=True)}  # fmt: skip
    packaged.program.update_weights(table)
    call = lambda entry, inputs: dict(  # noqa: E731
        zip(packaged.output_names, packaged.run(inputs), strict=True)
    )
    assert all(r.problem for r in replay(changed, lambda _: call))


def test_unknown_entry_and_target_are_refused(saved):
    package = Package.load(saved)
    with pytest.raises(InvalidArgumentError, match="no entry point 'other'; it has: main"):
        PackagedModel(package, "other")
    with pytest.raises(InvalidArgumentError, match="no code for 'znver3'"):
        PackagedModel(package, target="znver3")
