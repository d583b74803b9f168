"""The conformance guards let native code through, and nothing else."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnx.helper as oh
import pytest

CONFORMANCE = Path(__file__).parents[2] / "conformance"
RELU = onnx.TensorProto.FLOAT


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"conformance_{name}", CONFORMANCE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


guards = load("guards")


@pytest.fixture
def blocked(monkeypatch):
    # another test of this process may have loaded it; the guards refuse to start beside it
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    found = guards.Guards()
    found.install()
    return found


def relu_model() -> onnx.ModelProto:
    node = oh.make_node("Relu", ["x"], ["y"])
    ends = [oh.make_tensor_value_info(name, RELU, [2]) for name in "xy"]
    return oh.make_model(oh.make_graph([node], "g", ends[:1], ends[1:]), ir_version=10)


def test_references_of_our_ops_are_blocked_while_a_model_runs(blocked):
    from torsh_dialect.context import Context
    from torsh_dialect.evaluate import evaluate
    from torsh_fx.importers.onnx import import_onnx

    module = import_onnx(relu_model(), Context()).module
    x = np.array([-1.0, 2.0], np.float32)
    with blocked.compiling():
        np.testing.assert_array_equal(evaluate(module, [x])[0], [0, 2])
    with pytest.raises(guards.CheatingError, match="evaluate was called"), blocked.running():
        evaluate(module, [x])
    from torsh_dialect.ops.activation import ReluOp

    relu = next(op for op in module.walk() if isinstance(op, ReluOp))
    with pytest.raises(guards.CheatingError, match="evaluate"), blocked.running():
        relu.evaluate(x)


def test_host_functions_pass_and_are_counted(blocked):
    strings = onnx.TensorProto.STRING
    ends = [oh.make_tensor_value_info(name, strings, [2]) for name in "abc"]
    node = oh.make_node("StringConcat", ["a", "b"], ["c"])
    graph = oh.make_graph([node], "g", ends[:2], ends[2:])
    opset = [oh.make_opsetid("", 20)]
    import torsh_fx

    model = torsh_fx.compile(oh.make_model(graph, opset_imports=opset, ir_version=10))
    with blocked.running():
        (c,) = model.run([np.array(["x", "y"]), np.array(["1", "2"])])
    assert c.tolist() == ["x1", "y2"]
    assert blocked.references.hosted == 1


def test_the_onnx_reference_is_blocked(blocked):
    from onnx.reference import ReferenceEvaluator

    blocked.install()
    session = ReferenceEvaluator(relu_model())
    feeds = {"x": np.ones(2, np.float32)}
    assert session.run(None, feeds)
    with pytest.raises(guards.CheatingError, match="run was called"), blocked.compiling():
        session.run(None, feeds)


def test_imports_of_other_runtimes_are_blocked():
    with pytest.raises(guards.BlockedError, match="onnxruntime"), guards.no_imports():
        importlib.import_module("onnxruntime.no_such_part")


def test_torch_kernels_are_blocked():
    torch = pytest.importorskip("torch")
    x = torch.ones(2)
    with guards.no_torch_kernels():
        assert x.detach().view(1, 2).shape == (1, 2)
        with pytest.raises(guards.BlockedError, match="add"):
            x + x


def test_the_target_compiles_and_runs_natively():
    code = (
        f"import sys; sys.path.insert(0, {str(CONFORMANCE)!r})\n"
        "import numpy as np, onnx, target\n"
        "model = onnx.load_from_string(sys.stdin.buffer.read())\n"
        "print(target.prepare(model)([np.array([-1, 2], np.float32)]))\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=relu_model().SerializeToString(), capture_output=True)
    assert b"[0., 2.]" in done.stdout, done.stderr.decode()
