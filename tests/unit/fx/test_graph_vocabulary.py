"""Every operation of the guide's vocabulary, compiled, against torch; names stay names of ops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

import torsh_fx
from torsh_dialect.errors import TorshError
from torsh_dialect.operations import OPERATIONS, VOCABULARY
from torsh_fx import ModuleTracer
from torsh_fx.onnx_importer import MAPPINGS

GUIDE = [
    "linear",
    "relu",
    "gelu",
    "matmul",
    "add",
    "sub",
    "mul",
    "div",
    "softmax",
    "sigmoid",
    "tanh",
    "greater",
    "square",
    "abs",
    "conv2d",
    "max_pool2d",
    "global_avg_pool2d",
    "batch_norm",
    "reshape",
    "transpose",
    "concat",
    "split",
]


def image():
    return torch.randn(2, 3, 8, 8)


def elementwise(m, v):
    return [
        ("linear", [m, torch.randn(7, 5), torch.randn(7)], {}, F.linear),
        ("relu", [m], {}, torch.relu),
        ("gelu", [m], {}, F.gelu),
        ("gelu", [m], {"approximate": "tanh"}, lambda x: F.gelu(x, approximate="tanh")),
        ("matmul", [m, v], {}, torch.matmul),
        ("add", [m, v], {}, torch.add),
        ("sub", [v, m], {}, torch.sub),
        ("mul", [m, m], {}, torch.mul),
        ("div", [m, v], {}, torch.div),
        ("softmax", [m], {}, lambda x: x.softmax(-1)),
        ("softmax", [m], {"dim": 0}, lambda x: x.softmax(0)),
        ("log_softmax", [m], {}, lambda x: x.log_softmax(-1)),
        ("sigmoid", [m], {}, torch.sigmoid),
        ("tanh", [m], {}, torch.tanh),
        ("greater", [m, v], {}, torch.gt),
        ("greater_equal", [m, m], {}, torch.ge),
        ("less", [m, v], {}, torch.lt),
        ("less_equal", [m, m], {}, torch.le),
        ("equal", [m, m], {}, torch.eq),
        ("not_equal", [m, v], {}, torch.ne),
        ("square", [m], {}, torch.square),
        ("abs", [m], {}, torch.abs),
        ("leaky_relu", [m], {}, F.leaky_relu),
        ("elu", [m], {}, F.elu),
    ]


def convolutions(x, m, k, b):
    return [
        ("conv1d", [m[None], torch.randn(2, 4, 3)], {}, F.conv1d),
        ("conv2d", [x, k, b], {"padding": 1}, lambda *a: F.conv2d(*a, padding=1)),
        (
            "conv2d",
            [x, k],
            {"stride": [2, 1], "padding": [0, 1], "dilation": 2},
            lambda *a: F.conv2d(*a, stride=(2, 1), padding=(0, 1), dilation=2),
        ),
        ("conv2d", [x, k], {"padding": "same"}, lambda *a: F.conv2d(*a, padding="same")),
        ("conv2d", [x, torch.randn(6, 1, 3, 3)], {"groups": 3}, lambda *a: F.conv2d(*a, groups=3)),
        ("conv3d", [x[None], torch.randn(1, 2, 2, 3, 3)], {}, F.conv3d),
    ]


def pools(x):
    return [
        ("max_pool1d", [x[0]], {}, lambda x: F.max_pool1d(x, 2)),
        ("max_pool2d", [x], {}, lambda x: F.max_pool2d(x, 2)),
        (
            "max_pool2d",
            [x],
            {"kernel_size": 3, "stride": 2, "padding": 1},
            lambda x: F.max_pool2d(x, 3, 2, 1),
        ),
        ("avg_pool1d", [x[0]], {}, lambda x: F.avg_pool1d(x, 2)),
        (
            "avg_pool2d",
            [x],
            {"kernel_size": 3, "padding": 1, "count_include_pad": False},
            lambda x: F.avg_pool2d(x, 3, padding=1, count_include_pad=False),
        ),
        ("global_avg_pool2d", [x], {}, lambda x: F.adaptive_avg_pool2d(x, 1)),
    ]


def norms(x, m, v):
    stats = [torch.rand(3) + 0.5 for _ in range(4)]
    return [
        (
            "batch_norm",
            [x, *stats],
            {"eps": 1e-3},
            lambda x, w, b, m, v: F.batch_norm(x, m, v, w, b, eps=1e-3),
        ),
        ("layer_norm", [m, v, v], {}, lambda x, w, b: F.layer_norm(x, (5,), w, b)),
        ("layer_norm", [m], {"affine": False}, lambda x: F.layer_norm(x, (5,))),
    ]


def movements(x, m):
    return [
        ("embedding", [torch.tensor([2, 0]), m], {}, F.embedding),
        ("reshape", [m], {"shape": [2, -1]}, lambda x: x.reshape(2, -1)),
        ("flatten", [x], {}, lambda x: x.flatten(1)),
        ("transpose", [m], {}, lambda x: x.T),
        ("transpose", [x], {"perm": [0, 2, 3, 1]}, lambda x: x.permute(0, 2, 3, 1)),
        ("transpose", [x], {"dim0": 1, "dim1": -1}, lambda x: x.transpose(1, -1)),
        ("concat", [m, m, m], {"axis": 1}, lambda *a: torch.cat(a, 1)),
    ]


def reductions(m):
    return [
        ("sum", [m], {}, lambda x: x.sum()),
        ("mean", [m], {"axis": 0, "keepdims": True}, lambda x: x.mean(0, keepdim=True)),
        ("max", [m], {"axis": 1}, lambda x: x.amax(1)),
        ("min", [m], {"dim": -1}, lambda x: x.amin(-1)),
        ("prod", [m], {"axis": 1}, lambda x: x.prod(1)),
    ]


def others(m, v):
    return [
        ("cast", [m], {"to": "i64"}, lambda x: x.long()),
        ("identity", [m], {}, lambda x: x),
        ("dropout", [m], {"p": 0.5}, lambda x: x),
        ("merge", [m], {}, lambda x: x),
        ("exp", [m], {}, torch.exp),
        ("where", [m > 0, m, v], {}, torch.where),
    ]


def rows():
    """An operation, its operands, its attributes, and what computes the same in torch."""
    torch.manual_seed(0)
    m, v = torch.randn(4, 5), torch.randn(5)
    k, b = torch.randn(6, 3, 3, 3), torch.randn(6)
    x = image()
    return [
        *elementwise(m, v),
        *convolutions(x, m, k, b),
        *pools(x),
        *norms(x, m, v),
        *movements(x, m),
        *reductions(m),
        *others(m, v),
    ]


ROWS = rows()


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r[0])
def test_operation_equals_torch(row):
    operation, arguments, attributes, expected = row
    tracer = ModuleTracer()
    names = [f"a{n}" for n in range(len(arguments))]
    for name in names:
        tracer.add_input(name)
    tracer.add_call(operation, names, attributes=attributes)
    tracer.add_output("node_0")
    found = torsh_fx.compile(tracer.finalize(), arguments)(*arguments)
    wanted = expected(*arguments)
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=2e-5, atol=2e-5)


def test_split_has_several_values():
    x = torch.randn(6, 4)
    for attributes, pieces in (
        ({"sizes": [1, 3], "axis": 1}, x.split([1, 3], 1)),
        ({"sections": 3}, x.split(2)),
    ):
        tracer = ModuleTracer()
        tracer.add_input("x")
        tracer.add_call("split", ["x"], attributes=attributes)
        for n in range(len(pieces)):
            tracer.add_output(f"node_0.{n}")
        found = torsh_fx.compile(tracer.finalize(), (x,))(x)
        assert all(torch.equal(a, b) for a, b in zip(found, pieces, strict=True))


def test_every_operation_of_the_table_is_tested():
    assert set(OPERATIONS) - {"split"} <= {row[0] for row in ROWS}
    assert all(VOCABULARY.knows(name) for name in GUIDE)
    assert set(MAPPINGS.values()) <= set(GUIDE)


@pytest.mark.parametrize(
    ("operation", "parameters", "build"),
    [
        ("linear", ("weight", "bias"), lambda: torch.nn.Linear(8, 3)),
        ("conv2d", ("weight", "bias"), lambda: torch.nn.Conv2d(3, 5, 1)),
        (
            "batch_norm",
            ("weight", "bias", "running_mean", "running_var"),
            lambda: torch.nn.BatchNorm2d(3).eval(),
        ),
    ],
)
def test_parameters_of_a_node(operation, parameters, build):
    torch.manual_seed(0)
    module, x = build(), image()
    tracer = ModuleTracer()
    tracer.add_input("x")
    tracer.add_call(operation, ["x"])
    tracer.add_output("node_0")
    graph = tracer.finalize()
    assert graph.unbound() == [f"node_0.{name}" for name in parameters]
    state = module.state_dict()
    graph.bind({f"node_0.{name}": state[name].numpy() for name in parameters})
    found = torsh_fx.compile(graph, (x,))(x)
    torch.testing.assert_close(found, module(x).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("operation", "attributes", "message"),
    [
        ("reshape", {"shape": [3, -1]}, "no multiple of 3"),
        ("reshape", {"shape": [-1, -1]}, "only one extent"),
        ("conv2d", {}, r"node_0\.weight"),
        ("softmax", {"axis": 7}, "out of range"),
        ("cast", {"to": "f33"}, "unknown dtype 'f33'"),
        ("transpose", {"perm": [0, 0]}, "perm"),
    ],
)
def test_what_does_not_fit_names_the_node(operation, attributes, message):
    tracer = ModuleTracer()
    tracer.add_input("x")
    tracer.add_call(operation, ["x"], attributes=attributes)
    tracer.add_output("node_0")
    graph = tracer.finalize()
    with pytest.raises(TorshError, match=message):
        torsh_fx.compile(graph, (np.zeros((4, 5), np.float32),))
