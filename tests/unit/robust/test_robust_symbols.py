"""Symbolic extents that an op needs to have one value: it runs there, and says so elsewhere."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from robust_models import attention, convnet, mlp, model_of, normal

from torsh_dialect.errors import InputError, UnsupportedError
from torsh_fx.compiler import compile as compile_model

make = helper.make_node


def freed(model: onnx.ModelProto, *names: str | None) -> onnx.ModelProto:
    """The model with symbolic extents of its input; None leaves one as it is."""
    for dim, name in zip(model.graph.input[0].type.tensor_type.shape.dim, names, strict=True):
        if name is not None:
            dim.dim_param = name
    return model


def window(op: str, groups: int) -> onnx.ModelProto:
    node = make(op, ["x", "w"], ["y"], group=groups, name="window")
    return model_of([node], {"x": ["n", "c", "h"]}, weights={"w": normal(8, 2, 3)})


def lstm() -> onnx.ModelProto:
    node = make("LSTM", ["x", "w", "r"], ["o", "y"], hidden_size=4, name="cell")
    arrays = {"w": normal(1, 16, 3), "r": normal(1, 16, 4)}
    return model_of([node], {"x": ["s", "b", "c"]}, weights=arrays)


def norm(op: str, *operands: str, **attributes: int) -> onnx.ModelProto:
    """A normalisation of x: f32[n, c, h]; `a` holds 3 numbers, `b` 9, `v` 3 above 0."""
    node = make(op, ["x", *operands], ["y"], name="norm", **attributes)
    arrays = {"a": normal(3), "b": normal(9), "v": np.ones(3, np.float32)}
    used = {name: array for name, array in arrays.items() if name in operands}
    return model_of([node], {"x": ["n", "c", "h"]}, weights=used)


CASES = {
    "rows equal columns": (freed(mlp(), "n", "n"), (8, 8), (7, 7), "first.*n = 7 .* 8"),
    "columns": (freed(mlp(), "n", "k"), (3, 8), (3, 7), "first.*k = 7 .* 8"),
    "channels": (freed(convnet(), None, "c", None, None), (1, 3, 16, 16), (1, 4, 16, 16),
                 "conv.*c = 4 .* 3"),
    "all": (freed(convnet(), *"ncwh"), (2, 3, 17, 18), (2, 2, 17, 18), "conv.*c = 2 .* 3"),
    "one for all": (freed(convnet(), *"nnnn"), (3,) * 4, (4,) * 4, "conv.*n = 4 .* 3"),
    "attention": (freed(attention(), *"nnm"), (6, 6, 8), (6, 6, 7), "m = 7 .* 8"),
    "groups": (window("Conv", 4), (2, 8, 9), (2, 4, 9), "window.*c = 4 .* 8"),
    "transposed": (window("ConvTranspose", 1), (2, 8, 9), (2, 4, 9), "window.*c = 4 .* 8"),
    # One channel would broadcast silently.
    "batch norm": (norm("BatchNormalization", *"aaav"), (2, 3, 9), (2, 1, 9), "norm.*c = 1 .* 3"),
    "instance norm": (norm("InstanceNormalization", *"aa"), (2, 3, 9), (2, 1, 9),
                      "norm.*c = 1 .* 3"),
    "layer norm": (norm("LayerNormalization", "b"), (2, 3, 9), (2, 3, 1), "norm.*h = 1 .* 9"),
    "recurrent": (lstm(), (5, 2, 3), (5, 2, 4), "cell.*c = 4 .* 3"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(CASES))
def test_extents_that_must_have_one_value(case: str):
    model, good, bad, says = CASES[case]
    compiled = compile_model(model)
    x = normal(*good)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    np.testing.assert_allclose(compiled.run([x])[0], session.run(None, {"x": x})[0], atol=2e-6)
    with pytest.raises(InputError, match=says):
        compiled.run([normal(*bad)])


@pytest.mark.parametrize(("op", "weight"), [("Conv", (2, 2, 1)), ("ConvTranspose", (2, 2, 1))])
@pytest.mark.parametrize("bias", [(), (2, 1), (3,)])
def test_a_bias_that_does_not_fit_is_named_with_its_node(
    op: str, weight: tuple[int, ...], bias: tuple[int, ...]
):
    node = make(op, ["x", "w", "b"], ["y"], name="biased")
    arrays = {"w": normal(*weight), "b": np.ones(bias, np.float32)}
    model = model_of([node], {"x": [1, 2, 5]}, weights=arrays)
    with pytest.raises(UnsupportedError, match=r"node biased.*bias.*C1"):
        compile_model(model)


def test_keepdims_other_than_1_drops_the_axis_as_in_onnxruntime():
    nodes = [
        make("ArgMax", ["x"], ["y"], axis=1, keepdims=3),
        make("ReduceSum", ["x"], ["z"], keepdims=2),
    ]
    kinds = {"y": onnx.TensorProto.INT64}
    model = model_of(nodes, {"x": [3, 4]}, ("y", "z"), dtypes=kinds)
    x = normal(3, 4)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    wanted = session.run(None, {"x": x})
    for ours, theirs in zip(compile_model(model).run([x]), wanted, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("scale", [(9,), (3, 1), (2, 3, 9, 9)])
def test_a_scale_that_would_grow_the_result_of_layer_norm(scale: tuple[int, ...]):
    node = make("LayerNormalization", ["x", "s"], ["y"], axis=-1, name="norm")
    model = model_of([node], {"x": [2, 1, 1]}, weights={"s": np.ones(scale, np.float32)})
    with pytest.raises(UnsupportedError, match=r"node norm.*does not broadcast"):
        compile_model(model)
