"""Parts of a model that the data leave empty: no token is an image, no box is left."""

from __future__ import annotations

import torch

import torsh_fx


class Routed(torch.nn.Module):
    """A layer for the rows that a mask names, another for the rest, as models of two kinds do."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

    def forward(self, x, ids):
        mask = ids == 3
        y = x.masked_scatter(mask.unsqueeze(-1), self.first(x[mask]))
        return y.masked_scatter(~mask.unsqueeze(-1), self.second(y[~mask]))


def test_masks_that_name_all_rows_some_and_none():
    torch.manual_seed(0)
    model, x = Routed().eval(), torch.randn(2, 5, 4)
    mixed = torch.tensor([[3, 1, 3, 2, 2], [1, 1, 1, 1, 3]])
    compiled = torsh_fx.compile(model, (x, mixed))
    for ids in (mixed, torch.full((2, 5), 3), torch.zeros((2, 5), dtype=torch.long)):
        torch.testing.assert_close(compiled(x, ids), model(x, ids).detach())


def test_a_source_without_elements():
    x, mask, nothing = torch.randn(3), torch.zeros(3, dtype=torch.bool), torch.zeros(0)

    class Scatters(torch.nn.Module):
        def forward(self, x, mask, source):
            return x.masked_scatter(mask, source)

    compiled = torsh_fx.compile(Scatters(), (x, mask, nothing))
    assert torch.equal(compiled(x, mask, nothing), x)
