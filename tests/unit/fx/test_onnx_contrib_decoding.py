"""Experts, repeated n-grams, crops and inverses of com.microsoft, compiled, beside onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper

import torsh_fx

Arrays = Mapping[str, np.ndarray]
TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "int32": TensorProto.INT32}


def one_node(op: str, arrays: Arrays, dynamic: Mapping[str, list[Any]], **more: Any) -> ModelProto:
    """A node of the arrays' names; `""` stands for an input that is left out."""
    node = helper.make_node(
        op, [name if len(a) else "" for name, a in arrays.items()], ["y"], domain="com.microsoft"
    )
    node.attribute.extend(helper.make_attribute(k, v) for k, v in more.items())
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info(name, TYPES[a.dtype.name], dynamic.get(name, a.shape))
            for name, a in arrays.items()
            if len(a)
        ],
        [helper.make_empty_tensor_value_info("y")],
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def agree(
    op: str,
    arrays: Arrays,
    tolerance: float = 0.0,
    dynamic: Mapping[str, list[Any]] = MappingProxyType({}),
    **more: Any,
) -> np.ndarray:
    model = one_node(op, arrays, dynamic, **more)
    given = {name: a for name, a in arrays.items() if len(a)}
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    wanted = np.asarray(session.run(None, given)[0])
    got = torsh_fx.compile(model, threads=1)(**given)
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, atol=tolerance, rtol=tolerance)
    return wanted


def real(*dims: int) -> np.ndarray:
    return np.random.default_rng(sum(dims)).standard_normal(dims, np.float32)


ABSENT = np.zeros(0, np.float32)


@pytest.mark.parametrize("dims", [(3, 3), (2, 5, 5), (1, 1)])
def test_inverses(dims: tuple[int, ...]):
    agree("Inverse", {"x": real(*dims)}, 1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 9])
@pytest.mark.parametrize("length", [1, 2, 12])
def test_tokens_that_would_repeat_an_n_gram(size: int, length: int):
    ids = np.random.default_rng(size).integers(0, 3, (4, length))
    arrays = {"ids": ids, "scores": real(4, 5)}
    wanted = agree("NGramRepeatBlock", arrays, dynamic={"ids": ["b", "s"]}, ngram_size=size)
    if length == 12:
        assert np.isinf(wanted).any() == (size < 9)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [(3, 5), (1, 2), (7, 1)])
def test_crops(mode: str, size: tuple[int, int]):
    boxes = [[0, 0, 1, 1], [0.2, 0.9, 0.7, 0.1], [-0.5, 0, 0.5, 1.5], [0.3, 0.3, 0.3, 0.3]]
    arrays = {
        "x": real(2, 3, 6, 8),
        "boxes": np.array(boxes, np.float32),
        "places": np.array([0, 1, 1, 0], np.int32),
        "size": np.array(size, np.int32),
    }
    dynamic: dict[str, list[Any]] = {"x": ["n", "c", "h", "w"], "boxes": ["r", 4]}
    agree("CropAndResize", arrays, 1e-5, mode=mode, extrapolation_value=-3.0)
    agree("CropAndResize", arrays, 1e-5, dynamic=dynamic, mode=mode)


def experts(fused: int = 1, *, bias: bool = True, third: bool = False) -> dict[str, np.ndarray]:
    """5 tokens of 8 elements, 4 experts of 6 hidden ones."""
    found = {"x": real(5, 8), "router": real(5, 4), "w1": real(4, 6 * fused, 8)}
    found["b1"] = real(4, 6 * fused) if bias else ABSENT
    found |= {"w2": real(4, 8, 6), "b2": real(4, 8) if bias else ABSENT}
    return found | ({"w3": real(4, 6, 8), "b3": real(4, 6)} if third else {})


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "identity"])
def test_experts(activation: str):
    for best, normal in ((1, 0), (2, 1), (3, 0)):
        agree(
            "MoE", experts(), 2e-5, activation_type=activation, k=best,
            normalize_routing_weights=normal, dynamic={"x": ["t", 8], "router": ["t", 4]},
        )  # fmt: skip


def test_experts_of_batches_without_bias():
    arrays = experts(bias=False) | {"x": real(2, 3, 8), "router": real(6, 4)}
    agree("MoE", arrays, 2e-5, k=2)


def test_gated_experts_in_all_three_forms():
    """Onnxruntime knows the interleaved form; the others are the same numbers in another order."""
    limits: dict[str, Any] = {
        "activation_type": "swiglu", "k": 2, "activation_alpha": 1.7, "activation_beta": 1.0,
        "swiglu_limit": 2.0,
    }  # fmt: skip
    arrays = experts(2)
    wanted = agree("MoE", arrays, 2e-5, swiglu_fusion=1, **limits)
    halves = {n: np.concatenate([arrays[n][:, ::2], arrays[n][:, 1::2]], 1) for n in ("w1", "b1")}
    apart = {n: arrays[n][:, ::2] for n in ("w1", "b1")}
    apart |= {"w3": arrays["w1"][:, 1::2], "b3": arrays["b1"][:, 1::2]}
    for fusion, changed in ((2, halves), (0, apart)):
        given = {n: np.ascontiguousarray(a) for n, a in (arrays | changed).items()}
        model = one_node("MoE", given, {}, swiglu_fusion=fusion, **limits)
        np.testing.assert_allclose(torsh_fx.compile(model)(**given), wanted, atol=2e-5)


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"activation_type": "geglu"}, "the activation 'geglu'"),
        ({"activation_type": "relu"}, "a third projection with the activation 'relu'"),
        ({"activation_type": "swiglu", "swiglu_fusion": 1}, "a third projection beside fused"),
        ({"use_sparse_mixer": 1}, "'use_sparse_mixer' is 1; only 0"),
    ],
)
def test_experts_that_are_refused(attributes: dict[str, Any], says: str):
    arrays = experts(third=True)
    if attributes.get("activation_type") == "geglu":
        arrays = experts()
    with pytest.raises(torsh_fx.TorshError, match=says):
        torsh_fx.compile(one_node("MoE", arrays, {}, **attributes))
