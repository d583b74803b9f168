"""Control flow of torch, compiled natively: branches, loops, scans and graphs that are called.

Oracle: the eager module, in a copy that has the state of no other call.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from functorch.experimental.control_flow import map as map_rows
from torch import Tensor, nn
from torch._higher_order_ops.associative_scan import associative_scan
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop
from torch.export import Dim

import torsh_fx
from torsh_fx.hosted import HostedModule

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


class Model(nn.Module):
    """Runs a function with a linear layer and a buffer at hand."""

    def __init__(self, function: Callable[..., Any]):
        super().__init__()
        torch.manual_seed(0)
        self.function, self.linear = function, nn.Linear(4, 4)
        self.register_buffer("state", torch.zeros(4))

    def forward(self, *args):
        return self.function(self, *args)


@dataclass(frozen=True)
class Case:
    """A model, the arguments of some calls, and its symbolic axes."""

    function: Callable[..., Any]
    calls: tuple[tuple[Tensor, ...], ...]
    dynamic: Any = None


CASES: dict[str, Case] = {}


def case(*calls: tuple[Tensor, ...], dynamic: Any = None) -> Callable[..., Any]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        CASES[function.__name__] = Case(function, calls, dynamic)
        return function

    return register


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


X, ZERO = randn(3, 4), torch.tensor(0)
TIME = ({0: Dim("time", min=1)},)


@case((X, torch.tensor(3)), (X, ZERO), (2 * X, torch.tensor(7)))
def trip_count_of_data(m, x, n):
    return while_loop(lambda i, x: i < n, lambda i, x: (i + 1, torch.tanh(m.linear(x))), (ZERO, x))


@case((X,), (0 * X,), (100 * X,))
def while_a_value_is_large(m, x):
    return while_loop(lambda x: x.abs().sum() > 0.5, lambda x: (x * 0.5,), (x,))


@case((X, torch.tensor(2)), (X, ZERO), (X, torch.tensor(4)))
def loop_in_loop(m, x, n):
    def body(i, x):
        inner = while_loop(lambda j, y: j <= i, lambda j, y: (j + 1, y * 1.1 + j), (ZERO, x))
        return i + 1, inner[1]

    return while_loop(lambda i, x: i < n, body, (ZERO, x))


@case((X + 1,), (X - 5,), (X + 5,))
def branch_in_branch(m, x):
    inner = lambda x: torch.cond(x.max() > 1, lambda x: x * 2, lambda x: x * 3, (x,))  # noqa: E731
    return torch.cond(x.sum() > 0, inner, lambda x: m.linear(x), (x,))


@case((X,), (X - 5,))
def branch_in_loop(m, x):
    def body(i, x):
        return i + 1, torch.cond(x.sum() > 0, lambda x: x - 1, lambda x: x * 0.5 + 1, (x,))

    return while_loop(lambda i, x: i < 6, body, (ZERO, x))


@case((randn(5, 3, 4),))
def scan_backwards(m, x):
    return scan(lambda c, r: (c * 0.5 + r, c + r), torch.zeros(3, 4), x, reverse=True)


@case((randn(5, 3, 4),), (randn(1, 3, 4),), (randn(9, 3, 4),), dynamic=TIME)
def scan_of_any_length(m, x):
    return scan(lambda c, r: (torch.tanh(m.linear(c) + r), c + r), torch.zeros(3, 4), x)


@case((randn(5, 2, 4),))
def scan_in_scan(m, x):
    def outer(c, rows):
        last, _ = scan(lambda c, q: (c * 0.9 + q, c + q), c, rows)
        return last, last * 2

    return scan(outer, torch.zeros(4), x)


@case((randn(5, 3, 4),), (randn(2, 3, 4),), dynamic=TIME)
def map_of_rows(m, x):
    return map_rows(lambda r: torch.relu(m.linear(r)) + r.sum(), x)


@case((randn(6, 3, 4).sigmoid(), randn(6, 3, 5)[..., :4]))
def associative_scan_of_pairs(m, a, b):
    def combine(p, q):
        return p[0] * q[0], q[0] * p[1] + q[1]

    return associative_scan(combine, (a, b), dim=0, combine_mode="generic")


@case((randn(1, 4, 128, 16), randn(1, 2, 128, 16), randn(1, 2, 128, 16)))
def flex_attention_of_groups(m, q, k, v):
    from torch.nn.attention.flex_attention import flex_attention

    def score(s, b, h, i, j):
        return torch.where(i >= j, s + 0.1 * (j - i), -float("inf"))

    return flex_attention(q, k, v, score_mod=score, enable_gqa=True)


@case((randn(1, 2, 128, 16), randn(1, 2, 128, 16), randn(1, 2, 128, 16)))
def flex_attention_with_the_log_of_its_sums(m, q, k, v):
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention(q, k, v, return_lse=True)


@case((X,))
def region_that_is_called_twice(m, x):
    region = torch.compiler.nested_compile_region(lambda y: torch.relu(m.linear(y)))
    return region(region(x))


@case((X,), (X + 1,))
def state_read_in_a_loop(m, x):
    last = while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x * 2 + m.state), (ZERO, x))[1]
    m.state.add_(last.sum(0))
    return last


@case((torch.tensor([1.0, 0, 2, 0, 3]),), (torch.zeros(5),), (torch.ones(5),))
def places_and_values(m, x):
    return x.nonzero(), x[x > 0], torch.masked_select(x, x > 1)


@case((torch.tensor([1, 0, 2, 0, 2]),), (torch.zeros(5, dtype=torch.int64),))
def different_values(m, x):
    return torch.unique(x, return_inverse=True, return_counts=True)


@case((torch.tensor(4),), (ZERO,), (torch.tensor(9),))
def extent_that_is_data(m, n):
    k = n.item()
    torch._check(k >= 0)
    torch._check(k < 100)
    return torch.arange(k) * 2, torch.ones(k, 3)


@case(
    (randn(6, 4), torch.tensor([True, False, True, False, False, True])),
    (randn(6, 4), torch.zeros(6, dtype=torch.bool)),
)
def rows_by_mask(m, x, mask):
    y = x.clone()
    y[mask] = 0
    return x[mask].sum(0), y, m.linear(x[mask])


@case((X,))
def writes_through_views(m, x):
    y = x.clone()
    view = y[1:, ::2]
    view.mul_(2)
    y.t()[0].add_(1)
    flat = y.view(-1)
    flat[3:5] = 7
    return y, view.clone(), flat.clone()


@pytest.mark.parametrize("name", CASES)
def test_equals_eager(name: str):
    found = CASES[name]
    model = Model(found.function).eval()
    dynamic = None if found.dynamic is None else (found.dynamic,)
    compiled = torsh_fx.compile(
        copy.deepcopy(model), copy.deepcopy(found.calls[0]), dynamic_shapes=dynamic
    )
    assert not isinstance(compiled, HostedModule)
    for call in found.calls:
        with torch.no_grad():
            expected = copy.deepcopy(model)(*copy.deepcopy(call))
        ours = compiled(*copy.deepcopy(call))
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_a_session_keeps_what_a_loop_reads():
    model = Model(CASES["state_read_in_a_loop"].function).eval()
    session = torsh_fx.compile(copy.deepcopy(model), (X,)).session()
    for factor in (1, 2, -1):
        with torch.no_grad():
            expected = model(X * factor)
        torch.testing.assert_close(session(X * factor), expected, rtol=1e-4, atol=1e-4)
