"""A scatter that may write over its operand leaves constants, weights and its own updates alone."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from robust_models import model_of

import torsh_fx

PLACES = np.array([3, 1, 0, 2])
NUMBERS = np.array([-1, 5, 7, 1])


def scatter(of: str, updates: str, *, stored: tuple[str, ...]) -> onnx.ModelProto:
    """`of` with `updates` scattered over it; neg is -u."""
    nodes = [
        helper.make_node("Neg", ["u"], ["neg"]),
        helper.make_node("ScatterElements", [of, "places", updates], ["y"], axis=0),
        helper.make_node("Add", ["y", "u"], ["z"]),
    ]
    arrays = {name: NUMBERS for name in stored} | {"places": PLACES}
    kinds = dict.fromkeys(("u", "y", "z"), TensorProto.INT64)
    return model_of(nodes, {"u": [4]}, ("y", "z"), arrays, kinds)


@pytest.mark.parametrize(
    ("of", "updates", "stored"),
    [
        ("neg", "neg", ()),
        ("u", "u", ()),
        ("k", "u", ("k",)),
        ("k", "k", ("k",)),
        ("u", "k", ("k",)),
        ("neg", "u", ()),
    ],
)
def test_a_second_call_gives_what_the_first_gave(of: str, updates: str, stored: tuple[str, ...]):
    model = scatter(of, updates, stored=stored)
    given = {"u": np.array([10, 20, 30, 40])}
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    compiled = torsh_fx.compile(model, threads=1)
    for _ in range(3):
        for ours, theirs in zip(compiled(**given), session.run(None, given), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert given["u"].tolist() == [10, 20, 30, 40]


def test_updates_from_the_operand_itself():
    x = np.array([10, 20, 30, 40])
    places = np.array([3, 3, 0, 0])
    node = helper.make_node("ScatterElements", ["neg", "places", "neg"], ["y"], axis=0)
    nodes = [helper.make_node("Neg", ["u"], ["neg"]), node]
    kinds = dict.fromkeys(("u", "y"), TensorProto.INT64)
    model = model_of(nodes, {"u": [4]}, ("y",), {"places": places}, kinds)
    np.testing.assert_array_equal(torsh_fx.compile(model, threads=1)(u=x), [-40, -20, -30, -20])


def test_weights_stay_as_they_are():
    big = np.arange(4096, dtype=np.float32)
    nodes = [helper.make_node("ScatterElements", ["w", "places", "u"], ["y"], axis=0)]
    model = model_of(nodes, {"u": [4]}, ("y",), {"w": big, "places": PLACES})
    compiled = torsh_fx.compile(model, threads=1)
    for value in (1.0, 2.0):
        u = np.full(4, value, np.float32)
        expected = big.copy()
        expected[PLACES] = u
        np.testing.assert_array_equal(compiled(u=u), expected)
    np.testing.assert_array_equal(numpy_helper.to_array(model.graph.initializer[0]), big)
