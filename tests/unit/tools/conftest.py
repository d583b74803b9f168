"""Models that the command lines are tried on."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from tools.torsh import main


@pytest.fixture
def torsh(capsys):
    """Runs `torsh`; gives exit code, output and messages."""

    def run(*args):
        code = main([str(arg) for arg in args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def mlp(tmp_path_factory):
    """A saved ONNX model of one free extent: relu(x @ w + b), with w 8x4."""
    rng = np.random.default_rng(7)
    stored = [
        numpy_helper.from_array(rng.normal(size=(8, 4)).astype(np.float32), "w"),
        numpy_helper.from_array(rng.normal(size=4).astype(np.float32), "b"),
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        helper.make_node("Relu", ["h"], ["y"]),
    ]
    return _saved(tmp_path_factory.mktemp("mlp"), nodes, ("n", 8), ("n", 4), stored)


@pytest.fixture(scope="session")
def convnet(tmp_path_factory):
    """A saved ONNX model: 3x3 convolution, batch normalisation, relu."""
    rng = np.random.default_rng(8)
    arrays = {
        "w": rng.normal(size=(32, 32, 3, 3)),
        "scale": rng.uniform(0.5, 1.5, 32),
        "bias": rng.normal(size=32),
        "mean": rng.normal(size=32),
        "var": rng.uniform(0.5, 1.5, 32),
    }
    stored = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in arrays.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "scale", "bias", "mean", "var"], ["d"]),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    shape = (1, 32, 12, 12)
    return _saved(tmp_path_factory.mktemp("convnet"), nodes, shape, shape, stored)


@pytest.fixture(scope="session")
def hosted(tmp_path_factory):
    """A saved ONNX model with a sequence inside: y = exp(x) by way of a list."""
    nodes = [
        helper.make_node("Exp", ["x"], ["e"]),
        helper.make_node("SequenceConstruct", ["e", "x"], ["s"]),
        helper.make_node("Sub", ["x", "x"], ["zeros"]),
        helper.make_node("ArgMax", ["zeros"], ["first"], axis=0, keepdims=0),
        helper.make_node("SequenceAt", ["s", "first"], ["y"]),
    ]
    return _saved(tmp_path_factory.mktemp("hosted"), nodes, (3,), (3,), [])


def _saved(folder, nodes, x_shape, y_shape, stored):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x_shape))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, list(y_shape))
    graph = helper.make_graph(nodes, "test", [x], [y], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    save(model, folder / "model.onnx")
    return folder / "model.onnx"
