"""Grouped matrix products of expert layers, and scalar parameters, against eager torch."""

import numpy as np
import pytest
import torch

import torsh_fx


class Grouped(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.randn(3, 4, 5))

    def forward(self, x, offs):
        return torch.ops.transformers.grouped_mm_fallback(x, self.w, offs)


@pytest.fixture(scope="module")
def library():
    """The op of transformers by its definition, so that the test does not need the package."""
    defined = torch.library.Library("transformers", "DEF")
    defined.define("grouped_mm_fallback(Tensor input, Tensor weight, Tensor offs) -> Tensor")

    def product(input, weight, offs):
        y = torch.zeros(input.size(0), weight.size(2))
        start = 0
        for group, end in enumerate(offs.tolist()):
            y[start:end] = input[start:end] @ weight[group]
            start = end
        return y

    defined.impl("grouped_mm_fallback", product, "CPU")
    shape = lambda input, weight, offs: input.new_empty(input.size(0), weight.size(2))  # noqa: E731
    torch.library.register_fake("transformers::grouped_mm_fallback", shape, lib=defined)
    yield defined
    defined._destroy()


@pytest.mark.parametrize("ends", [[2, 5, 6], [0, 6, 6], [6, 6, 6], [1, 1, 4]])
def test_grouped_product(library, ends):
    model, x = Grouped().eval(), torch.randn(6, 4)
    offs = torch.tensor(ends, dtype=torch.int32)
    compiled = torsh_fx.compile(torch.export.export(model, (x, offs)))
    with torch.no_grad():
        np.testing.assert_allclose(compiled(x, offs), model(x, offs), rtol=1e-5, atol=1e-6)


class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return x * self.scale.exp()


def test_parameters_of_rank_0_are_prepared():
    model, x = Scaled().eval(), torch.arange(3.0)
    compiled = torsh_fx.compile(torch.export.export(model, (x,)))
    with torch.no_grad():
        np.testing.assert_allclose(compiled(x), model(x), rtol=1e-6)
