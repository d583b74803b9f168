"""Exported programs keep to the sizes that their traces hold for, as torch's own modules do."""

from __future__ import annotations

import io

import pytest
import torch
from torch.export import Dim
from torch.nn import functional
from torch_oracle import Function

import torsh_fx
from torsh_dialect.errors import ExecutionError, InputError

AUTO = {0: Dim.AUTO}


def exported(function, args, *shapes):
    return torch.export.export(Function(function), args, dynamic_shapes=(shapes,))


def by_product(x):
    return x * 2 if x.shape[0] * x.shape[1] > 20 else x * 3


def by_quotient(x, y):
    return x * 2 if x.shape[0] / 2 > 2.4 and int(y.shape[0] * 1.5) < 13 else x * 3


def by_either(x, y):
    either = (x.shape[0] + y.shape[0]) % 2 != 0 or max(x.shape[0], y.shape[0]) > 20
    return x * 2 if either and x.shape[0] != 7 else x * 3


CASES = [
    (by_product, lambda n, m: (torch.ones(n, m),), ({0: Dim.AUTO, 1: Dim.AUTO},)),
    (by_quotient, lambda n, m: (torch.ones(n), torch.ones(m)), (AUTO, AUTO)),
    (by_either, lambda n, m: (torch.ones(n), torch.ones(m)), (AUTO, AUTO)),
]


@pytest.mark.parametrize(("function", "inputs", "shapes"), CASES)
@pytest.mark.parametrize("first", [(6, 5), (4, 5), (9, 13)])
@pytest.mark.parametrize("saved", [False, True])
def test_a_branch_by_sizes(function, inputs, shapes, first, saved):
    """Where torch's module refuses sizes for which it would be wrong, the compiled one does."""
    program = exported(function, inputs(*first), *shapes)
    if saved:
        file = io.BytesIO()
        torch.export.save(program, file)
        file.seek(0)
        program = torch.export.load(file)
    compiled, module = torsh_fx.compile(program), program.module()
    refused = 0
    for n in (0, 1, 2, 4, 5, 6, 7, 9, 21):
        for m in (1, 2, 5, 8, 9, 22):
            args = inputs(n, m)
            try:
                expected = module(*args)
            except AssertionError:
                refused += 1
                with pytest.raises(InputError):
                    compiled(*args)
            else:
                assert torch.equal(compiled(*args), expected)
    assert refused


def test_windows_that_do_not_fit():
    """The trace divides; a rest that it has not seen is refused."""

    def windows(x):
        return x.view(x.shape[0] // 4, 4, x.shape[1]).sum(1)

    program = exported(windows, (torch.ones(8, 3),), {0: Dim.AUTO, 1: Dim.AUTO})
    compiled = torsh_fx.compile(program)
    assert torch.equal(compiled(torch.ones(20, 5)), torch.full((5, 5), 4.0))
    with pytest.raises(InputError):
        compiled(torch.ones(10, 5))


def by_first(x):
    return torch.cat([x, x[:1]]) * 2


SMALL = {
    "linear": (lambda x: functional.linear(x, torch.ones(3, 8)), (4, 8), (0,), (0, 1)),
    "conv": (
        lambda x: functional.conv2d(x, torch.ones(2, 3, 3, 3), padding=1),
        (4, 3, 5, 6),
        (0,),
        (0, 1),
    ),
    "both": (lambda x: x.softmax(1) + x.mean(1, keepdim=True), (4, 5), (0, 1), (0, 1)),
    "tail": (lambda x: x[2:] * 2, (7, 3), (1,), (0, 1)),
    "first": (by_first, (7, 3), (0,), (1,)),
    "one": (lambda x: x.squeeze(0) * 2, (7, 3), (0,), ()),
}


@pytest.mark.parametrize(("function", "shape", "axes", "admitted"), SMALL.values(), ids=SMALL)
def test_sizes_0_and_1(function, shape, axes, admitted):
    """They run where the program's extents hold for them, and are refused elsewhere."""
    program = exported(function, (torch.ones(shape),), dict.fromkeys(axes, Dim.AUTO))
    compiled, module = torsh_fx.compile(program), program.module()
    for size in (0, 1, 2, 13):
        x = torch.ones([size if axis in axes else n for axis, n in enumerate(shape)])
        if size < 2 and size not in admitted:
            with pytest.raises(InputError):
                compiled(x)
        else:
            torch.testing.assert_close(compiled(x), module(x), equal_nan=True)


class JoinsFirst(torch.nn.Module):
    def forward(self, x):
        return by_first(x)


class Chooses(torch.nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[0] == 1 else x * 3


@pytest.mark.parametrize(
    ("module", "admitted"),
    [
        (torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(1)), (0, 1)),
        (JoinsFirst(), (1,)),
        (Chooses(), ()),
    ],
)
def test_a_module_whose_axis_is_automatic(module, admitted):
    """Sizes 0 and 1 run where they leave the model the same; torch keeps no guard of them."""
    compiled = torsh_fx.compile(module, (torch.ones(3, 4),), dynamic_shapes=(AUTO,))
    for size in (0, 1, 2, 13):
        x = torch.rand(size, 4)
        if size < 2 and size not in admitted:
            with pytest.raises(InputError):
                compiled(x)
        else:
            torch.testing.assert_close(compiled(x), module(x))


def test_sizes_that_are_small_together():
    """Each may be 1, but not with the other below 3: the trace cuts 4 of at least 4."""
    program = exported(
        lambda x, y: torch.cat([x, y])[-4:] * 2, (torch.ones(5), torch.ones(6)), AUTO, AUTO
    )
    compiled, module = torsh_fx.compile(program), program.module()
    for n, m in ((2, 2), (9, 2), (2, 1), (1, 2), (0, 3)):
        args = (torch.rand(n), torch.rand(m))
        try:
            actual = compiled(*args)
        except InputError:
            assert min(n, m) < 2
        else:
            assert torch.equal(actual, module(*args))


def to_item(x, n):
    count = n.item()
    torch._check(count >= 0)
    torch._check(count <= x.shape[0])
    return x[:count] * 2


def even(x, n):
    torch._check(n.item() % 2 == 0)
    return x * n.item()


def positive(x, n):
    torch._assert_async((x > 0).all())
    return x * n


def said(x, n):
    torch._assert_async((x > 0).all(), "{x} must be positive")
    return x * n


DATA = [
    (to_item, r"u0 = 6 must be at most s\d+ = 5|the extent u0 is -1, below 0"),
    (even, r"Eq\(PythonMod\(u0, 2\), 0\) is false"),
    (positive, r"does not hold: the value of all_\d+ \(aten.all.default\) is false"),
    (said, r"torch_oracle\.py:\d+\): an assertion .* does not hold: \{x\} must be positive"),
]


@pytest.mark.parametrize(("function", "words"), DATA)
def test_checks_of_data(function, words):
    """What `torch._check` asks of values ends the run, as in torch's own module."""
    inputs = [(torch.ones(5), torch.tensor(n)) for n in (4, 2, 6, 3, -1)]
    inputs.append((-torch.ones(8), torch.tensor(2)))
    program = exported(function, inputs[0], AUTO, None)
    compiled, module = torsh_fx.compile(program), program.module()
    refused = 0
    for args in inputs:
        try:
            expected = module(*args)
        except RuntimeError:
            refused += 1
            with pytest.raises(ExecutionError, match=words):
                compiled(*args)
        else:
            assert torch.equal(compiled(*args), expected)
    assert 0 < refused < len(inputs)


def read(x):
    return x.item()


@pytest.mark.parametrize("value", [True, False])
def test_a_bool_that_is_read_is_checked_as_a_number(value):
    program = torch.export.export(Function(read), (torch.tensor(True),))
    assert torsh_fx.compile(program)(torch.tensor(value)) == value


def split(x, places):
    return torch.tensor_split(x, places)


def test_where_torch_keeps_a_piece_is_not_checked():
    """Its trace asserts that offsets in memory are not negative; here tensors have none."""
    x, places = torch.randn(5, 3), torch.tensor([1, 2, 4])
    program = torch.export.export(Function(split), (x, places))
    compiled = torsh_fx.compile(program)
    for other in (places, torch.tensor([0, 3, 5]), torch.tensor([2, 2, 2])):
        for ours, theirs in zip(compiled(x, other), split(x, other), strict=True):
            assert torch.equal(ours, theirs)
