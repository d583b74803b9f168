"""Custom operators of torch: traced where they are written in Python, else refused by name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import torsh_fx
from torsh_dialect.errors import UnsupportedError
from torsh_fx.importers.torch_ops import CONVERTERS, NodeBuilder, converts

NAME = "torsh_test_custom"


@torch.library.custom_op(f"{NAME}::scaled", mutates_args=())
def scaled(x: Tensor, factor: float) -> Tensor:
    return x.mul(factor).add_(1)


@scaled.register_fake
def _(x: Tensor, factor: float) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op(f"{NAME}::swap_halves", mutates_args={"x"}, device_types="cpu")
def swap_halves(x: Tensor, y: Tensor) -> None:
    half = x.shape[0] // 2
    kept = x[:half].clone()
    x[:half] = x[half:] * y
    x[half:].copy_(kept)


@torch.library.custom_op(f"{NAME}::by_numpy", mutates_args=())
def by_numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(x.numpy() * 2)


@torch.library.custom_op(f"{NAME}::by_data", mutates_args=())
def by_data(x: Tensor) -> Tensor:
    return x * 2 if x.sum() > 0 else x * 3


@torch.library.custom_op(f"{NAME}::by_extent", mutates_args=())
def by_extent(x: Tensor) -> Tensor:
    return x * 2 if x.shape[0] > 5 else x * 3


for operator in (by_numpy, by_data, by_extent):
    operator.register_fake(torch.empty_like)

torch.library.define(f"{NAME}::counted", "(Tensor(a!) x, Tensor(b!)? n, float by) -> Tensor")
torch.library.define(f"{NAME}::unknown", "(Tensor x) -> Tensor")


@torch.library.impl(f"{NAME}::counted", "cpu")
def _(x: Tensor, n: Tensor | None, by: float) -> Tensor:
    x.mul_(by)
    if n is not None:
        n.add_(1)
    return x.sum()


@torch.library.register_fake(f"{NAME}::counted")
def _(x: Tensor, n: Tensor | None, by: float) -> Tensor:
    return x.new_empty(())


torch.library.register_fake(f"{NAME}::unknown")(torch.empty_like)
OPS = getattr(torch.ops, NAME)


class Pure(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return scaled(x, 2.5) * 3


class Changes(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        z, n = x + 1, torch.zeros(2)
        swap_halves(z, y)
        swap_halves(z[1:3], y)
        first = OPS.counted(z, n, 0.5)
        second = OPS.counted(z, None, 2.0)
        return z, n, first, second


class Buffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        OPS.counted(self.count, None, 2.0)
        return x + self.count


def assert_same(model: nn.Module, *args: Tensor) -> None:
    found = torsh_fx.compile(model, tuple(a.clone() for a in args))(*args)
    torch.testing.assert_close(found, model(*args))


def test_an_implementation_is_compiled():
    assert_same(Pure(), torch.randn(3, 4))


def test_what_is_changed_in_place_and_views_of_it():
    assert_same(Changes(), torch.randn(6, 3), torch.randn(3))


def test_dynamic_extents():
    rows = torch.export.Dim("rows", min=3, max=100)
    args = (torch.randn(6, 3), torch.randn(3))
    model = Changes()
    compiled = torsh_fx.compile(model, args, dynamic_shapes=({0: 2 * rows}, None))
    for count in (8, 50):
        x = torch.randn(count, 3)
        torch.testing.assert_close(compiled(x, args[1]), model(x, args[1]))


@pytest.mark.parametrize(
    ("operator", "said"),
    [(by_numpy, "numpy"), (by_data, "data-dependent")],
    ids=["numpy", "data"],
)
def test_what_cannot_be_traced_is_refused(operator, said):
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return operator(x) + 1

    with pytest.raises(UnsupportedError, match=f"{NAME}.*cannot be traced.*{said}") as caught:
        torsh_fx.compile(Model(), (torch.randn(3),))
    assert f"@converts('{NAME}." in str(caught.value)


def test_a_decision_by_a_dynamic_extent_is_refused():
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return by_extent(x) + 1

    assert_same(Model(), torch.randn(7))
    rows = torch.export.Dim("rows", min=2, max=100)
    with pytest.raises(UnsupportedError, match="by a dynamic extent"):
        torsh_fx.compile(Model(), (torch.randn(7),), dynamic_shapes=({0: rows},))


def test_an_operator_without_implementation_is_refused():
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return OPS.unknown(x) + 1

    with pytest.raises(UnsupportedError, match=f"{NAME}.unknown"):
        torsh_fx.compile(Model(), (torch.randn(3),))


@pytest.fixture
def registered() -> Iterator[None]:
    """A converter whose results differ from the implementation's, so that it shows."""

    @converts(f"{NAME}.counted.default")
    def convert(c: NodeBuilder, x, n, by):
        new = c.mul(x, by + 1)
        count = None if n is None else c.add(n, 10)
        return c.sum(new, [0, 1]), new, count

    yield
    del CONVERTERS[f"{NAME}.counted.default"]


@pytest.mark.usefixtures("registered")
def test_a_registered_converter_comes_first():
    class Model(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            z, n = x + 1, torch.zeros(2)
            return OPS.counted(z, n, 0.5), z, n

    x = torch.randn(2, 3)
    total, z, n = torsh_fx.compile(Model(), (x,))(x)
    torch.testing.assert_close(z, (x + 1) * 1.5)
    torch.testing.assert_close(total, z.sum())
    torch.testing.assert_close(n, torch.full((2,), 10.0))


@pytest.mark.usefixtures("registered")
def test_a_converter_of_what_changes_a_view_is_refused():
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            z = x + 1
            OPS.counted(z[1:], None, 0.5)
            return z

    with pytest.raises(UnsupportedError, match="changes a view"):
        torsh_fx.compile(Model(), (torch.randn(4, 3),))


def test_a_buffer_that_an_operator_changes_is_state():
    x, model = torch.randn(3), Buffer()
    session = torsh_fx.compile(Buffer(), (x,)).session()
    for _ in range(2):
        torch.testing.assert_close(session(x), model(x))
