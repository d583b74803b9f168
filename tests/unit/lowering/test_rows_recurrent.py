"""Recurrent kernels against ONNX Runtime and torch in float64; equal bits for any batch."""

from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from lowering.cpu.jit import aligned, compile_module, object_file, runs_here
from lowering.cpu.templates.pack import pack_nk, pack_reference
from lowering.cpu.templates.recurrent import (
    Activation,
    RecurrentParams,
    emit,
    parallel_extent,
    scratch_bytes,
)
from lowering.cpu.text import Module
from lowering.runtime.elf import read_symbols
from torsh_dialect.target import TARGETS

Array = np.ndarray[Any, Any]
HOST = next(t for t in map(TARGETS.get, ("x86-64-v3", "x86-64-v2", "aarch64")) if runs_here(t))
OPS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}


class Layer:
    """Random weights of an ONNX recurrent op, and its inputs."""

    def __init__(self, params: RecurrentParams, steps: int, batch: int, inputs: int, seed: int = 0):
        rng = np.random.default_rng(seed)
        d, g, h = len(params.reverse), params.gates, params.hidden
        self.params = params

        def random(*dims: int, scale: float = 1.0) -> Array:
            return (rng.standard_normal(dims) * scale).astype(np.float32)

        self.x = random(steps, batch, inputs)
        self.w = random(d, g * h, inputs, scale=inputs**-0.5)
        self.r = random(d, g * h, h, scale=h**-0.5)
        self.b = random(d, 2 * g * h, scale=0.3)
        self.h0, self.c0 = random(d, batch, h), random(d, batch, h)
        self.p = random(d, 3 * h)
        lengths = rng.integers(1, steps + 1, batch)
        lengths[0] = steps
        self.lengths = (lengths if params.lengths else np.full(batch, steps)).astype(np.int32)

    def native(self, rows: slice = slice(None), splits: tuple[int, ...] = ()) -> list[Array]:
        params, target = self.params, HOST
        d, g, h = len(params.reverse), params.gates, params.hidden
        x = self.x[:, rows]
        steps, batch, _ = x.shape
        wb, rb = self.b[:, : g * h].copy(), self.b[:, g * h :].copy()
        late = np.ascontiguousarray(rb[:, 2 * h :])
        if params.cell == "gru" and params.linear_before_reset:
            rb[:, 2 * h :] = 0
        # One row at a time: a BLAS may sum differently for another batch.
        z = np.stack([[row @ self.w[k].T + (wb[k] + rb[k]) for k in range(d)]
                      for row in x.reshape(steps * batch, 1, -1)])  # fmt: skip
        z = np.ascontiguousarray(z.astype(np.float32)).reshape(steps, batch, d, g * h)
        first = params.first_gates * h
        packed = [self.pack(self.r[:, :first]), self.pack(self.r[:, first:])]
        y = np.full((steps, d, batch, h), 7, np.float32)
        hn, cn = np.zeros((d, batch, h), np.float32), np.zeros((d, batch, h), np.float32)
        size = scratch_bytes(params, target)
        scratch = aligned((2 * size,), np.uint8)
        scratch[:] = 0xFF
        module = Module()
        emit(module, "cell", params, target)
        kernel = compile_module(module, target, ["cell"]).kernel("cell")
        words = [
            z, *packed, *(np.ascontiguousarray(s[:, rows]) for s in (self.h0, self.c0)), y, hn, cn,
            steps, batch, np.ascontiguousarray(self.lengths[rows]), self.p, late, scratch,
            batch * d * g * h, d * g * h, g * h, d * batch * h, h, batch * h,
        ]  # fmt: skip
        extent = parallel_extent(params, target, batch)
        for i, (lo, hi) in enumerate(pairwise([0, *splits, extent])):
            kernel(words, lo, hi, i % 2)
        return [y, hn, cn] if params.cell == "lstm" else [y, hn]

    def pack(self, weights: Array) -> Array:
        if not weights.shape[1]:
            return np.zeros(1, np.float32)
        pack = pack_nk(weights.shape[1], self.params.hidden)
        parts = [pack_reference(np.ascontiguousarray(w), pack, HOST).ravel() for w in weights]
        out = aligned((sum(p.size for p in parts),))
        out[:] = np.concatenate(parts)
        return out

    def onnx(self, **attributes: Any) -> list[Array]:
        """What ONNX Runtime computes."""
        params = self.params
        values = {"X": self.x, "W": self.w, "R": self.r, "B": self.b, "L": self.lengths}
        names = ["X", "W", "R", "B", "L", "H"]
        values["H"] = self.h0 if params.initial else self.h0 * 0
        outputs = ["Y", "Yh"]
        if params.cell == "lstm":
            names += ["C", "P"] if params.peepholes else ["C"]
            values["C"] = self.c0 if params.initial else self.c0 * 0
            values["P"] = self.p
            outputs.append("Yc")
            attributes["input_forget"] = int(params.input_forget)
        if params.cell == "gru":
            attributes["linear_before_reset"] = int(params.linear_before_reset)
        if params.clip:
            attributes["clip"] = params.clip
        direction = {(False,): "forward", (True,): "reverse"}.get(params.reverse, "bidirectional")
        node = helper.make_node(
            OPS[params.cell], names, outputs, hidden_size=params.hidden, direction=direction,
            **attributes,
        )  # fmt: skip

        def info(name: str, value: Array) -> onnx.ValueInfoProto:
            kind = TensorProto.INT32 if value.dtype == np.int32 else TensorProto.FLOAT
            return helper.make_tensor_value_info(name, kind, value.shape)

        results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs]
        graph = helper.make_graph([node], "g", [info(n, values[n]) for n in names], results)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        return session.run(None, {n: values[n] for n in names})


def check(layer: Layer, **attributes: Any) -> None:
    for got, want in zip(layer.native(), layer.onnx(**attributes), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6)


BOTH = (False, True)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("reverse", [(False,), (True,), BOTH])
@pytest.mark.parametrize(("hidden", "batch"), [(5, 1), (24, 3), (70, 14)])
def test_directions_and_sizes(cell: Any, reverse: Any, hidden: int, batch: int) -> None:
    check(Layer(RecurrentParams(cell, hidden, reverse), 6, batch, 4))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_sequence_lengths(cell: Any) -> None:
    check(Layer(RecurrentParams(cell, 19, BOTH, lengths=True), 7, 15, 4))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_an_empty_sequence_gives_zeros_and_keeps_its_state(cell: Any) -> None:
    layer = Layer(RecurrentParams(cell, 11, BOTH, lengths=True), 4, 3, 2)
    layer.lengths[1] = 0
    got = layer.native()
    assert (got[0][:, :, 1] == 0).all()
    for final, initial in zip(got[1:], (layer.h0, layer.c0), strict=False):
        np.testing.assert_array_equal(final[:, 1], initial[:, 1])


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "lstm", "peepholes": True},
        {"cell": "lstm", "input_forget": True},
        {"cell": "lstm", "initial": False},
        {"cell": "gru", "linear_before_reset": True},
        {"cell": "gru", "initial": False},
        {"cell": "rnn", "clip": 0.5},
        {"cell": "gru", "clip": 0.5, "linear_before_reset": True},
        {"cell": "lstm", "clip": 0.5},
    ],
)
def test_options(options: Any) -> None:
    check(Layer(RecurrentParams(hidden=21, reverse=BOTH, **options), 5, 4, 6))


@pytest.mark.parametrize(
    "activation",
    [
        Activation("Relu"), Activation("LeakyRelu", 0.1), Activation("ThresholdedRelu", 0.2),
        Activation("ScaledTanh", 1.5, 0.7), Activation("HardSigmoid", 0.3, 0.4),
        Activation("Elu", 0.8), Activation("Softsign"), Activation("Softplus"),
        Activation("Affine", 0.5, 0.1),
    ],
    ids=lambda a: a.name,
)  # fmt: skip
def test_activations(activation: Activation) -> None:
    params = RecurrentParams("rnn", 9, activations=((activation,),))
    check(
        Layer(params, 4, 2, 3), activations=[activation.name],
        activation_alpha=[activation.alpha], activation_beta=[activation.beta],
    )  # fmt: skip


def test_lstm_is_no_worse_than_torch_against_float64() -> None:
    layer = Layer(RecurrentParams("lstm", 300), 30, 5, 20)
    order = np.r_[0:300, 600:900, 900:1200, 300:600]  # i f g o of torch from i o f c
    results: list[Array] = []
    for dtype in (torch.float32, torch.float64):
        module = torch.nn.LSTM(20, 300, dtype=dtype)
        tensors = (layer.w[0], layer.r[0], layer.b[0, :1200], layer.b[0, 1200:])
        with torch.no_grad():
            for parameter, value in zip(module.parameters(), tensors, strict=True):
                parameter.copy_(torch.from_numpy(value[order]))
            states = [torch.from_numpy(s).to(dtype) for s in (layer.h0, layer.c0)]
            results.append(module(torch.from_numpy(layer.x).to(dtype), tuple(states))[0].numpy())
    theirs, exact = results
    ours = np.abs(layer.native()[0][:, 0] - exact)
    other = np.abs(theirs - exact)
    assert np.sqrt(np.mean(ours**2)) <= 1.5 * np.sqrt(np.mean(other**2))
    assert ours.max() <= 4 * other.max()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_bits_do_not_depend_on_batch_or_split(cell: Any) -> None:
    layer = Layer(RecurrentParams(cell, 40, BOTH, lengths=True), 5, 31, 6)
    whole = layer.native()
    for got, want in zip(layer.native(splits=(1, 4)), whole, strict=True):
        np.testing.assert_array_equal(got, want)
    some = layer.native(slice(13, 16))
    np.testing.assert_array_equal(some[0], whole[0][:, :, 13:16])
    np.testing.assert_array_equal(some[1], whole[1][:, 13:16])


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_assembles_without_libraries(target: str) -> None:
    module = Module()
    for cell in ("lstm", "gru", "rnn"):
        params = RecurrentParams(cell, 70, BOTH, lengths=True, peepholes=True, clip=3.0)
        emit(module, cell, params, TARGETS[target])
    symbols = read_symbols(object_file(module, TARGETS[target]), "recurrent")
    assert symbols.undefined <= {"_GLOBAL_OFFSET_TABLE_", "memcpy", "memset"}
