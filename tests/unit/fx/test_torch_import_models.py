"""Small torch models through the importer: layers, calls, sizes, state, control flow."""

import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.nn import functional as F  # noqa: N812
from torch_oracle import Function, called, check, compared, imported, ops

import torsh_fx
from torsh_dialect.context import Context
from torsh_dialect.errors import ImportModelError, InputError, UnsupportedError
from torsh_fx.importers.model import Fate
from torsh_fx.importers.torch_call import flatten_inputs
from torsh_fx.importers.torch_export import import_exported_program
from torsh_fx.importers.torch_source import import_torch

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The tensor attributes self._flat_weights:UserWarning"),
]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 4, 3, stride=2, output_padding=1)
        self.out = nn.Linear(4, 5)
        self.norm.running_mean.uniform_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        y = F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)
        return F.log_softmax(self.out(self.up(y).mean((2, 3))), -1)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.feed = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, x):
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.feed(x)


def test_cnn_keeps_whole_layers():
    model = check(Cnn(), (torch.randn(2, 3, 12, 12),))
    assert {"conv", "batch_norm", "max_pool", "conv_transpose", "linear", "log_softmax"} <= {
        *ops(model)
    }


def test_transformer_block():
    model = check(Block(), (torch.randn(2, 5, 16),), tolerance=1e-4)
    assert {"layer_norm", "gelu", "linear"} <= {*ops(model)}


def test_attention_stays_whole():
    qkv = tuple(torch.randn(2, 4, 5, 8) for _ in range(3))
    model = check(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), qkv)
    assert "attention" in ops(model)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(
    "options", [{}, {"bidirectional": True, "num_layers": 2}, {"batch_first": True, "bias": False}]
)
def test_recurrent_layers_stay_whole(kind, options):
    model = check(kind(4, 6, **options), (torch.randn(3, 2, 4),))
    layers = options.get("num_layers", 1)
    assert ops(model).count(kind.__name__.lower()) == layers


def test_dynamic_batch_and_length_with_other_sizes():
    sizes = {0: Dim("batch", min=1, max=64), 1: Dim("length", min=2, max=128)}
    others = [(torch.randn(*s, 16),) for s in ((1, 2), (3, 7), (8, 64))]
    model = check(Block(), (torch.randn(2, 5, 16),), *others, dynamic=({**sizes},), tolerance=1e-4)
    assert sorted(model.symbols.values()) == [(1, 64), (2, 128)]


def test_symbols_have_the_names_of_the_dims():
    batch, length = Dim("batch", min=1, max=64), Dim("length", min=2, max=128)
    for shapes in (({0: batch, 1: length},), {"x": (batch, length, None)}):
        model = import_torch(Block().eval(), Context(), (torch.randn(2, 5, 16),), shapes)
        assert model.symbols == {"batch": (1, 64), "length": (2, 128)}
        assert "#torsh.dims<[batch, length, 16]>" in str(model.module)
        x = torch.randn(3, 7, 16)
        assert called(model, (x,))[0].shape == x.shape


def test_a_dimension_derived_from_another():
    half = Dim("half", min=1, max=32)
    check(
        lambda x: x[:, ::2] + x[:, 1::2],
        (torch.randn(3, 8),),
        (torch.randn(3, 20),),
        dynamic=(({1: 2 * half},),),
    )


def test_structure_of_arguments_and_results():
    def f(pair, extra):
        return {
            "sum": pair[0] + pair["b"] if isinstance(pair, dict) else pair[0] + pair[1],
            "n": 3,
            "same": [extra],
        }

    args = ((torch.randn(2), torch.randn(2)), torch.randn(3))
    model = imported(f, args)
    result, _ = called(model, args)
    compared(result, f(*args))
    assert result["n"] == 3
    with pytest.raises(InputError, match="arguments"):
        flatten_inputs(model.interface, (torch.randn(2),), {})


def test_a_constant_argument_is_fixed():
    model = check(lambda x, k: x * k, (torch.randn(2), 3))
    with pytest.raises(InputError, match="3 at import is 4"):
        flatten_inputs(model.interface, (torch.randn(2), 4), {})


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(100, 8)
        self.head = nn.Linear(8, 100, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, i):
        return self.head(self.embed(i))


def test_tied_weights_are_stored_once():
    model = check(Tied(), (torch.tensor([[1, 5], [7, 99]]),))
    assert len(model.weights) == 1
    assert ops(model).count("weight") == 1


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("cache", torch.zeros(4, 3))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        self.cache[1:] = self.cache[:-1].clone()
        self.cache[0] = x
        self.count += 1
        return self.cache.sum(0) * self.count


def test_changed_buffers_become_state():
    model = imported(Counter(), (torch.randn(3),))
    assert [s.name for s in model.state] == ["cache", "count"]
    assert model.inputs[-2:] == ("cache", "count")
    eager, state = Counter(), None
    for _ in range(3):
        x = torch.randn(3)
        result, state = called(model, (x,), state)
        compared(result, eager(x))
    assert int(state["count"]) == 3


def test_in_place_ops_and_views_keep_aliasing():
    def f(x):
        y = x.clone()
        row = y[1]
        row.mul_(2)
        y.view(-1)[0] = 7
        y[:, 1:].add_(row[0])
        y.t()[2].relu_()
        return y, row

    check(f, (torch.randn(3, 4),))


def test_cond():
    def f(x, flag):
        return torch.cond(flag, lambda x: (x.sin(), x + 1), lambda x: (x.cos(), x * 2), (x,))

    x = torch.randn(3)
    model = check(f, (x, torch.tensor(True)), (x, torch.tensor(False)))
    assert "cond" in ops(model)


def test_cond_on_a_size():
    def f(x):
        return torch.cond(x.shape[0] > 4, lambda x: x.sum(), lambda x: x.max(), (x,))

    n = Dim("n", min=2, max=9)
    check(f, (torch.randn(3),), (torch.randn(8),), (torch.randn(4),), dynamic=(({0: n},),))


def test_while_loop():
    from torch._higher_order_ops.while_loop import while_loop

    def f(i, x):
        return while_loop(lambda i, x: i < 5, lambda i, x: (i + 1, x * 1.5 + i), (i, x))

    x = torch.randn(2)
    check(f, (torch.tensor(0), x), (torch.tensor(3), x), (torch.tensor(9), x))


def test_scan_and_map():
    from torch._higher_order_ops.map import map as torch_map
    from torch._higher_order_ops.scan import scan

    def f(x):
        last, all_ = scan(lambda c, row: (c * 0.5 + row, c + row), torch.zeros(3), x)
        return last, all_, torch_map(lambda row: row.softmax(0), x)

    model = check(f, (torch.randn(4, 3),))
    assert ops(model).count("loop") == 2


def test_flex_attention():
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    slopes = torch.tensor([0.5, 0.25])

    def near(score, b, h, q, k):
        return score - slopes[h] * (q - k).abs()

    mask = create_block_mask(lambda b, h, q, k: q >= k, 2, 2, 128, 128, device="cpu")
    qkv = tuple(torch.randn(2, 2, 128, 8) for _ in range(3))
    check(lambda q, k, v: flex_attention(q, k, v, score_mod=near, block_mask=mask), qkv)


def test_traced_graph_modules():
    traced = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(3, 4), nn.Tanh()))
    model = import_torch(traced, Context(), (torch.randn(2, 3),))
    x = torch.randn(2, 3)
    compared(called(model, (x,))[0], traced(x))


def test_data_dependent_extents():
    def f(x):
        return x[x > 0].sum(), torch.nonzero(x), x.masked_select(x < 0)

    x = torch.randn(4, 3)
    check(f, (x,), (-x,), (torch.zeros(4, 3),))


def test_a_size_read_from_a_tensor():
    def f(n):
        k = n.item()
        torch._check(k >= 0)
        torch._check(k < 100)
        return torch.arange(k) * 2, torch.zeros(k, 2) + k

    check(f, (torch.tensor(4),), (torch.tensor(0),), (torch.tensor(17),))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(dtype):
    x = torch.randn(4, 8, dtype=dtype)
    layer = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.SiLU()).to(dtype)
    tolerance = {torch.float16: 4e-3, torch.bfloat16: 3e-2}.get(dtype, 1e-12)
    check(layer, (x,), tolerance=tolerance)


def test_every_node_is_accounted_for():
    class Dead(nn.Module):
        def forward(self, x):
            unused = x.exp()  # noqa: F841
            return x.shape[0] * x

    with torch.no_grad():
        program = torch.export.export(Dead(), (torch.randn(3),), strict=False)
    model = import_exported_program(program, Context())
    counts = model.report.counts()
    assert sum(counts.values()) == len(program.graph.nodes)
    assert counts[Fate.REFUSED] == 0
    assert set(model.report.fates) == {n.name for n in program.graph.nodes}


def test_locations_name_module_and_file():
    model = imported(Cnn(), (torch.randn(1, 3, 12, 12),))
    conv = next(op for op in model.module.walk() if op.name == "torsh.conv")
    assert "conv" in str(conv.location)
    assert "test_torch_import_models.py" in str(conv.location)


torch.library.define("torsh_test::mystery", "(Tensor x) -> Tensor")


@torch.library.register_fake("torsh_test::mystery")
def _(x):
    return torch.empty_like(x)


def test_all_unknown_ops_are_reported_together():
    class Unknown(nn.Module):
        def forward(self, x):
            mystery = torch.ops.torsh_test.mystery
            return mystery(mystery(x) + 1)

    with pytest.raises(UnsupportedError) as caught:
        imported(Unknown(), (torch.randn(2),))
    message = str(caught.value)
    assert "2 node(s) not supported" in message
    assert message.count("torsh_test.mystery.default (node mystery") == 2
    assert "test_torch_import_models.py" in message
    assert "register a converter" in message


def test_what_torch_cannot_trace_is_an_import_error():
    def f(x):
        return x + 1 if x.sum() > 0 else x - 1

    with pytest.raises(ImportModelError, match=r"torch\.export cannot trace"):
        import_torch(Function(f), Context(), (torch.randn(2),))


def test_arguments_by_position_and_by_name_are_the_same_call():
    class Three(torch.nn.Module):
        def forward(self, x, a, b):
            return x + 10 * a + 100 * b

    one, two, three = (torch.full((2,), float(n)) for n in (1, 2, 3))
    expected = Three()(one, two, three)
    f = torsh_fx.compile(Three(), (one, two, three))
    by_name = torsh_fx.compile(torch.export.export(Three(), (one,), {"b": three, "a": two}))
    assert torch.equal(f(one, two, three), expected)
    for g in (f, by_name):
        assert torch.equal(g(one, b=three, a=two), expected)
        assert torch.equal(g(b=three, x=one, a=two), expected)
        for args, kwargs in (
            ((one,), {"a": two}),
            ((one, two, three), {"b": three}),
            ((one, two), {"c": three}),
        ):
            with pytest.raises(InputError, match="arguments"):
                g(*args, **kwargs)
    with pytest.raises(InputError, match="arguments"):
        by_name(one, two, three)
