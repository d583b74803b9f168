"""GroupQueryAttention over batches whose entries have lengths of their own, beside onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

import torsh_fx

HEADS, GROUPS, SIZE, POSITIONS = 4, 2, 16, 32


@dataclass(frozen=True)
class Case:
    """A call of the operator.

    Attributes:
        lengths: Keys of each entry, the new ones included.
        queries: New ones for each entry.
        past: Places of the cache that is given; None: there is none.
        attributes: Beside the numbers of heads.
        dynamic: Whether all extents are symbolic.
        packed: Whether q, k and v are one input.
        sink: Whether each head has a score beside its keys.
        bias: Entries and heads of an added bias, if there is one.
    """

    lengths: tuple[int, ...]
    queries: int
    past: int | None
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    dynamic: bool = False
    packed: bool = False
    sink: bool = False
    bias: tuple[int, int] | None = None


ROTARY = {"do_rotary": 1}
CASES = {
    "prompts": Case((3, 3), 3, None),
    "prompts-padded": Case((1, 3), 3, None),
    "prompts-padded-rotary": Case((2, 4, 3), 4, None, ROTARY),
    "prompts-in-a-longer-cache": Case((2, 3), 3, 8, ROTARY),
    "step": Case((5, 5), 1, 4, ROTARY),
    "step-padded": Case((3, 5), 1, 4, ROTARY),
    "step-padded-interleaved": Case((2, 6), 1, 5, {"do_rotary": 1, "rotary_interleaved": 1}),
    "step-in-a-longer-cache": Case((3, 7), 1, 9, ROTARY),
    "step-dynamic": Case((3, 5), 1, 4, ROTARY, dynamic=True),
    "prompts-dynamic": Case((1, 3), 3, 0, ROTARY, dynamic=True),
    "window": Case((3, 9), 1, 8, {"local_window_size": 4}),
    "window-prompt": Case((6, 4), 6, None, {"local_window_size": 2}),
    "softcap": Case((2, 4), 1, 3, {"softcap": 2.0, "scale": 0.3}),
    "packed": Case((3, 4), 1, 3, ROTARY, packed=True),
    "smooth": Case((2, 4), 1, 3, {"smooth_softmax": 1}),
    "smooth-prompt": Case((3, 2), 3, None, {"smooth_softmax": 1, "softcap": 2.0}),
    "smooth-step-dynamic": Case((3, 5), 1, 4, {"smooth_softmax": 1}, dynamic=True),
    "sink": Case((2, 4), 1, 3, sink=True),
    "sink-prompt-window": Case((5, 4), 5, None, {"local_window_size": 2}, sink=True),
    "sink-in-a-longer-cache": Case((3, 7), 1, 9, ROTARY, sink=True),
    "bias": Case((3, 3), 3, None, bias=(2, HEADS)),
    "bias-step-in-a-longer-cache": Case((3, 7), 1, 9, bias=(1, 1)),
    "bias-and-sink": Case((3, 5), 1, 4, bias=(1, HEADS), sink=True),
    "defaults-spelled-out": Case((2, 4), 1, 3, {"smooth_softmax": 0, "local_window_size": -1}),
}


def inputs_of(case: Case) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)

    def real(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    batch, queries = len(case.lengths), case.queries
    hidden, keys = HEADS * SIZE, GROUPS * SIZE
    found = {"q": real(batch, queries, hidden + 2 * keys if case.packed else hidden)}
    if not case.packed:
        found |= {"k": real(batch, queries, keys), "v": real(batch, queries, keys)}
    if case.past is not None:
        found |= {n: real(batch, GROUPS, case.past, SIZE) for n in ("past_key", "past_value")}
    found["last"] = np.array(case.lengths, np.int32) - 1
    found["total"] = np.array(max(case.lengths), np.int32)
    if "do_rotary" in case.attributes:
        angles = np.outer(np.arange(POSITIONS), 0.5 ** np.arange(SIZE // 2)).astype(np.float32)
        found |= {"cos": np.cos(angles), "sin": np.sin(angles)}
    if case.bias is not None:
        found["bias"] = real(*case.bias, queries, max(case.lengths))
    if case.sink:
        found["sink"] = real(HEADS)
    return found


def model_of(case: Case, inputs: dict[str, np.ndarray]) -> onnx.ModelProto:
    order = ("q", "k", "v", "past_key", "past_value", "last", "total", "cos", "sin", "", "bias",
             "sink")  # fmt: skip
    names = [name if name in inputs else "" for name in order]
    node = helper.make_node(
        "GroupQueryAttention", names, ["y", "keys", "values"], domain="com.microsoft",
        num_heads=HEADS, kv_num_heads=GROUPS, **case.attributes,
    )  # fmt: skip
    shared = {"k": "q", "v": "q", "past_value": "past_key", "sin": "cos"}
    values = []
    for name, array in inputs.items():
        kind = TensorProto.INT32 if array.dtype == np.int32 else TensorProto.FLOAT
        fixed = {"q": 2, "k": 2, "v": 2, "past_key": 3, "past_value": 3, "cos": 1, "sin": 1}
        first = {"past_key": (0, 2), "past_value": (0, 2)}.get(name, (0, 1))
        shape: list[Any] = list(array.shape)
        if case.dynamic:
            for axis in first:
                if axis < array.ndim and axis != fixed.get(name):
                    shape[axis] = (
                        "batch"
                        if axis == 0 and name not in ("cos", "sin")
                        else (f"{shared.get(name, name)}_{axis}")
                    )
        values.append(helper.make_tensor_value_info(name, kind, shape))
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = helper.make_graph([node], "g", values, outputs)
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


@pytest.mark.parametrize("name", CASES)
def test_entries_give_what_onnxruntime_gives(name: str):
    """Compared where entries hold something: padded queries and unused places are nobody's."""
    case = CASES[name]
    inputs = inputs_of(case)
    model = model_of(case, inputs)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, inputs)
    found = torsh_fx.compile(model, threads=1)(**inputs)
    prompt = case.queries == max(case.lengths)
    for a, e in zip(found, expected, strict=True):
        assert (a.shape, a.dtype) == (e.shape, e.dtype)
    for entry, length in enumerate(case.lengths):
        queries = length if prompt else case.queries
        np.testing.assert_allclose(
            found[0][entry, :queries], expected[0][entry, :queries], atol=1e-5
        )
        for ours, theirs in zip(found[1:], expected[1:], strict=True):
            np.testing.assert_allclose(
                ours[entry, :, :length], theirs[entry, :, :length], atol=1e-6
            )


def test_an_entry_gives_the_same_alone_and_in_a_padded_batch():
    """The oracle is the definition: padding changes nothing."""
    case = CASES["step-padded"]
    inputs = inputs_of(case)
    together = torsh_fx.compile(model_of(case, inputs), threads=1)(**inputs)[0]
    for entry, length in enumerate(case.lengths):
        alone = {n: a if n in ("cos", "sin") else a[entry : entry + 1] for n, a in inputs.items()
                 if n != "total"}  # fmt: skip
        alone["total"] = np.array(length, np.int32)
        alone |= {n: alone[n][:, :, : length - 1] for n in ("past_key", "past_value")}
        single = Case((length,), 1, length - 1, case.attributes)
        y = torsh_fx.compile(model_of(single, alone), threads=1)(**alone)[0]
        np.testing.assert_allclose(y[0], together[entry], atol=1e-6)


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"kv_cache_bit_width": 8}, "kv_cache_bit_width' is 8; only 0"),
        ({"bogus": 1}, "no attribute 'bogus'"),
    ],
)
def test_what_is_not_honoured_is_refused(attributes: dict[str, Any], text: str):
    case = Case((3, 3), 3, None, attributes)
    with pytest.raises(torsh_fx.TorshError, match=text):
        torsh_fx.compile(model_of(case, inputs_of(case)))


def test_inputs_that_are_not_read_are_refused():
    case = CASES["prompts"]
    model = model_of(case, inputs_of(case))
    model.graph.node[0].input.append("k_scale")
    model.graph.input.append(helper.make_tensor_value_info("k_scale", TensorProto.FLOAT, [HEADS]))
    with pytest.raises(torsh_fx.TorshError, match=r"the inputs \[12\] of GroupQueryAttention"):
        torsh_fx.compile(model)
