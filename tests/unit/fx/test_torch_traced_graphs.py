"""Graphs of `torch.fx.symbolic_trace`, with and without example inputs, next to eager torch."""

import pytest
import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.fx.tensor_type import Dyn, TensorType

import torsh_fx
from torsh_dialect.errors import InputError, InvalidArgumentError, UnsupportedError


class Simple(nn.Module):
    """The migration guide's module."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(10, 1)

    def forward(self, x):
        return torch.relu(self.linear(x))


class Annotated(nn.Module):
    """A module whose inputs say their shapes."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(10, 4)

    def forward(self, x: TensorType((Dyn, 10)), y: TensorType((4,))):
        return self.linear(x) * y


def replace_relu_with_gelu(gm):
    """The migration guide's rewrite."""
    for node in gm.graph.nodes:
        if node.op == "call_function" and node.target == torch.relu:
            with gm.graph.inserting_after(node):
                new = gm.graph.call_function(nn.functional.gelu, node.args)
                node.replace_all_uses_with(new)
                gm.graph.erase_node(node)
    gm.recompile()


@torch.no_grad()
def test_a_traced_module_with_example_inputs():
    module = Simple()
    traced = fx.symbolic_trace(module)
    x = torch.randn(5, 10)
    torch.testing.assert_close(torsh_fx.compile(traced, (x,))(x), module(x))
    text = str(torsh_fx.from_pytorch(traced, (x,)).module)
    assert "torsh.linear" in text
    assert "torsh.relu" in text


@torch.no_grad()
def test_a_rewritten_graph():
    module = Simple()
    traced = fx.symbolic_trace(module)
    replace_relu_with_gelu(traced)
    x = torch.randn(5, 10)
    torch.testing.assert_close(
        torsh_fx.compile(traced, (x,))(x), nn.functional.gelu(module.linear(x))
    )


@torch.no_grad()
def test_shapes_of_a_graph_behind_shape_prop():
    traced = fx.symbolic_trace(Simple())
    x = torch.randn(5, 10)
    ShapeProp(traced).propagate(x)
    compiled = torsh_fx.compile(traced)
    torch.testing.assert_close(compiled(x), traced(x))
    with pytest.raises(InputError, match="5"):
        compiled(torch.randn(6, 10))


@torch.no_grad()
def test_annotated_axes_take_any_extent():
    module = Annotated()
    compiled = torsh_fx.compile(fx.symbolic_trace(module))
    y = torch.randn(4)
    for rows in (1, 2, 7, 33):
        x = torch.randn(rows, 10)
        torch.testing.assert_close(compiled(x, y), module(x, y))
    with pytest.raises(InputError, match="10"):
        compiled(torch.randn(3, 9), y)


def test_a_graph_that_says_no_shapes_is_an_error_that_names_the_inputs():
    with pytest.raises(InvalidArgumentError, match="the shapes of x: give example inputs"):
        torsh_fx.compile(fx.symbolic_trace(Simple()))
    with pytest.raises(InvalidArgumentError, match="example inputs"):
        torsh_fx.compile(Simple())


def test_an_unknown_function_in_a_traced_graph_is_named():
    @torch.library.custom_op("torsh_traced::thrice", mutates_args=())
    def thrice(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.numpy() * 3)

    @thrice.register_fake
    def _(x):
        return torch.empty_like(x)

    traced = fx.symbolic_trace(nn.Sequential(nn.Linear(3, 3)))
    with traced.graph.inserting_before(next(iter(reversed(traced.graph.nodes)))):
        last = next(node for node in reversed(traced.graph.nodes) if node.op == "call_module")
        output = next(iter(reversed(traced.graph.nodes)))
        output.args = (traced.graph.call_function(torch.ops.torsh_traced.thrice, (last,)),)
    traced.recompile()
    with pytest.raises(UnsupportedError, match=r"torsh_traced\.thrice"):
        torsh_fx.compile(traced, (torch.randn(2, 3),))
