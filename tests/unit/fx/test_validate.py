"""`f.validate`: the right model passes, planted importer faults fail."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import torsh_fx
from torsh_dialect.attributes import dims_attribute, integer, integers, literal, real, text
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.context import Context
from torsh_dialect.errors import InvalidArgumentError, ValidationError
from torsh_dialect.ops.constant import ConstantOp, WeightOp
from torsh_dialect.ops.contract import LinearOp
from torsh_dialect.ops.conv import ConvOp
from torsh_dialect.ops.elementwise import AddOp
from torsh_dialect.ops.movement import ReshapeOp, TransposeOp
from torsh_dialect.ops.norm import LayerNormOp
from torsh_dialect.ops.softmax import SoftmaxOp
from torsh_fx import reference
from torsh_fx.compilation import compile_imported
from torsh_fx.graph.node import Node
from torsh_fx.sources import import_model

N = 8


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, N, 3, padding=1)
        self.norm = torch.nn.LayerNorm(N)
        self.first = torch.nn.Linear(N, N)
        self.second = torch.nn.Linear(N, N)
        self.shift = torch.nn.Parameter(torch.randn(N))

    def forward(self, x):
        y = torch.relu(self.conv(x)).mean(1) * 0.125
        y = self.second(torch.tanh(self.first(self.norm(y))))
        return torch.softmax(y + self.shift, 2), y.argmax(-1)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(1)
    return Net().eval()


@pytest.fixture(scope="module")
def calls():
    torch.manual_seed(2)
    return [(torch.randn(2, 3, N, N),) for _ in range(16)]


def ops(module, kind):
    return [op for op in module.walk() if isinstance(op, kind)]


def only(module, kind):
    (op,) = ops(module, kind)
    return op


def axis(module):
    only(module, SoftmaxOp).properties["axis"] = integer(1)


def eps(module):
    only(module, LayerNormOp).properties["epsilon"] = real(1e-3)


def pad(module):
    only(module, ConvOp).properties["pads"] = integers((2, 2, 0, 0))


def swapped_weights(module):
    first, second = (
        op for op in ops(module, WeightOp) if op.id.data in ("first.weight", "second.weight")
    )
    first.properties["id"], second.properties["id"] = text(second.id.data), text(first.id.data)
    for op in (first, second):
        op.properties.pop("digest", None)


def transposed_weight(module):
    op = ops(module, LinearOp)[0]
    op.operands[1] = BlockBuilder(op.parent, op)(TransposeOp, op.w, perm=[1, 0])


def wrong_scale(module):
    for op in ops(module, ConstantOp):
        if op.value.data.array().dtype == np.float32:
            op.properties["value"] = literal(op.value.data.array() * np.float32(1.001))


def dropped_bias(module):
    op = ops(module, LinearOp)[1]
    copy = LinearOp.make(op.x, op.w)
    op.parent.insert_op_before(copy, op)
    op.y.replace_all_uses_with(copy.y)
    op.detach()
    op.erase()


def wrong_broadcast(module):
    op = next(o for o in ops(module, AddOp) if isinstance(o.b.owner, WeightOp))
    op.operands[1] = BlockBuilder(op.parent, op)(ReshapeOp, op.b, target=dims_attribute([N, 1]))


FAULTS = [
    axis,
    eps,
    pad,
    swapped_weights,
    transposed_weight,
    wrong_scale,
    dropped_bias,
    wrong_broadcast,
]


def compiled_with(net, calls, fault):
    ctx = Context()
    imported = import_model(net, ctx, calls[0])
    module = imported.module.clone()
    fault(module)
    module.verify()
    assert str(module) != str(imported.module), "the fault changed nothing"
    return compile_imported(dataclasses.replace(imported, module=module), ctx, source=net)


def test_the_right_model_passes(net, calls):
    verdict = torsh_fx.compile(net, calls[0]).validate(calls)
    assert verdict.passed, str(verdict)
    report = str(verdict)
    assert report.startswith("PASS: the compiled model computes what its source does, over 16")
    assert "reference: torch in float64; source: torch" in report
    assert verdict.outputs[0].own.most > 0
    verdict.require()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_a_planted_fault_fails(net, calls, fault):
    verdict = compiled_with(net, calls, fault).validate(calls)
    assert not verdict.passed
    assert str(verdict).startswith("FAIL: the compiled model differs from its source")
    with pytest.raises(ValidationError, match="exceeds"):
        verdict.require()


def onnx_model(rng, *, with_bias=True, scale=1.0):
    values = rng.standard_normal((4, 2, 3, 3)) * scale
    weight = numpy_helper.from_array(values.astype(np.float32), "w")
    bias = numpy_helper.from_array(rng.standard_normal(4).astype(np.float32), "b")
    nodes = [
        helper.make_node(
            "Conv", ["x", "w", "b"][: 3 if with_bias else 2], ["c"], pads=[1, 1, 1, 1]
        ),
        helper.make_node("Softmax", ["c"], ["y"], axis=1),
        helper.make_node("ArgMax", ["y"], ["i"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 5, 5])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, 5, 5]),
            helper.make_tensor_value_info("i", TensorProto.INT64, ["n", 5, 5]),
        ],
        [weight, bias],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_onnx_models_are_judged_by_onnx(tmp_path):
    model = onnx_model(np.random.default_rng(0))
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    rng = np.random.default_rng(1)
    calls = [{"x": rng.standard_normal((n, 2, 5, 5)).astype(np.float32)} for n in range(1, 17)]
    verdict = torsh_fx.compile(path).validate(calls)
    assert verdict.passed, str(verdict)
    assert verdict.plain == "onnxruntime"
    assert verdict.exact.startswith("onnx.reference in float64 (onnxruntime cannot run it")
    without = onnx_model(np.random.default_rng(0), with_bias=False)
    assert not torsh_fx.compile(without).validate(calls, model).passed


def test_a_wrong_import_fails_without_an_independent_reference(monkeypatch):
    """Where neither onnxruntime nor onnx runs a model in float64, the imported module does."""

    def refuses(proto):
        def run(outputs, feed):
            raise NotImplementedError("no kernel")

        return run

    monkeypatch.setattr(reference, "_reference", refuses)
    model = onnx_model(np.random.default_rng(0))
    rng = np.random.default_rng(1)
    calls = [{"x": rng.standard_normal((2, 2, 5, 5)).astype(np.float32)} for _ in range(16)]
    verdict = torsh_fx.compile(model).validate(calls)
    assert verdict.passed, str(verdict)
    assert verdict.exact == (
        "the ops' references in float64 (onnxruntime cannot run it: NotImplemented; "
        "onnx.reference cannot run it: NotImplementedError)"
    )
    shifted = onnx_model(np.random.default_rng(0), scale=1.001)
    verdict = torsh_fx.compile(shifted).validate(calls, model)
    assert not verdict.passed
    assert "the import is wrong" in str(verdict)


def test_a_graph_is_judged_by_the_references():
    tracer = torsh_fx.ModuleTracer()
    tracer.add_input("x", "f32[n, 6]")
    tracer.add_call("softmax", ["x"])
    tracer.add_call("mul", ["node_0", "3"])
    tracer.add_output("node_1")
    graph = tracer.finalize()
    rng = np.random.default_rng(0)
    calls = [rng.standard_normal((3, 6)).astype(np.float32) for _ in range(3)]
    f = torsh_fx.compile(graph)
    verdict = f.validate(calls)
    assert verdict.passed, str(verdict)
    assert "fewer than 16" in str(verdict)
    graph.set_node(graph.index_of("node_1"), Node.Call("mul", ["node_0", "3.01"]))
    other = torsh_fx.compile(graph)
    scaled = other.validate(calls).outputs[0].ours
    assert scaled.rms < 1e-6  # its own graph is its source
    with pytest.raises(InvalidArgumentError, match="needs inputs"):
        f.validate([])


def test_verdicts_on_special_values():
    class Special(torch.nn.Module):
        def forward(self, x):
            return torch.log(x), x > 0

    x = torch.tensor([0.0, -1.0, 1.0, float("inf"), float("nan")])
    f = torsh_fx.compile(Special(), (x,))
    assert f.validate([(x,)]).passed

    class Other(torch.nn.Module):
        def forward(self, x):
            return torch.log(x.abs()), x >= 0

    verdict = f.validate([(x,)], Other())
    faults = [output.faults for output in verdict.outputs]
    assert "1 of 5 values are NaN or infinite" in faults[0][0]
    assert faults[1] == ("1 of 5 values differ from the source's",)


class Ties(torch.nn.Module):
    """What is compared is equal in exact arithmetic, so that rounding decides."""

    def __init__(self, shift=0.0):
        super().__init__()
        torch.manual_seed(3)
        self.w = torch.nn.Parameter(torch.randn(700, 8))
        self.shift = shift

    def forward(self, x):
        y = x @ self.w
        z = x.flip(1) @ self.w.flip(0) + self.shift
        return torch.stack([y, z], -1).argmax(-1), y > z, ((y + z) * 64).round().long()


@pytest.fixture(scope="module")
def tied():
    torch.manual_seed(4)
    calls = [(torch.randn(4, 700),) for _ in range(16)]
    return Ties(), calls, torsh_fx.compile(Ties(), calls[0])


def test_what_rounding_decides_may_differ(tied):
    net, calls, f = tied
    wide = Ties().double()
    both = [
        int(((mine != plain) & (mine != exact)).sum())
        for (x,) in calls
        for mine, plain, exact in zip(f(x), net(x), wide(x.double()), strict=True)
    ]
    assert sum(both) > 20, "there is nothing for the margin to explain"
    verdict = f.validate(calls, net)
    assert verdict.passed, str(verdict)


def test_a_fault_above_the_rounding_is_none_of_its_decisions(tied):
    net, calls, _ = tied
    verdict = torsh_fx.compile(Ties(shift=1e-3), calls[0]).validate(calls, net)
    assert [output.passed for output in verdict.outputs] == [False, False, False]


def test_a_decision_against_a_clear_margin_fails(tied, monkeypatch):
    _, calls, _ = tied
    source = Ties(shift=1.0)
    f = torsh_fx.compile(source, calls[0])
    assert f.validate(calls).passed
    right = f.flat_outputs

    def wrong(args, kwargs):
        outputs = [np.array(one) for one in right(args, kwargs)]
        for one in outputs:
            one[0, 0] = ~one[0, 0] if one.dtype == bool else 1 - one[0, 0]
        return outputs

    monkeypatch.setattr(f, "flat_outputs", wrong)
    verdict = f.validate(calls)
    assert [output.faults for output in verdict.outputs] == [
        ("1 of 32 values differ from the source's",)
    ] * 3
