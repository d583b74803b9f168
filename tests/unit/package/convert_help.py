"""Models for the tests of the converters, and what is compared of them."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from torsh_package import Package

RNG = np.random.default_rng(0)


def weights_of(package: Package) -> dict[str, np.ndarray]:
    return dict(package.get_resource("weights").tensors)


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype.newbyteorder("="), name
        assert found[name].shape == array.shape, name
        assert np.array_equal(found[name], array), name


def model_of(initializers: list[TensorProto], **more: object) -> onnx.ModelProto:
    first = initializers[0].name if initializers else "x"
    node = helper.make_node("Identity", [first], ["y"])
    info = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", [], [info], initializers, **more)  # pyright: ignore
    return helper.make_model(
        graph, producer_name="test", opset_imports=[helper.make_opsetid("", 21)]
    )
