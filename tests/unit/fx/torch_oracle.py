"""Runs a torch model through the importer and the reference interpreter, next to eager torch."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils import _pytree as pytree

from torsh_dialect.context import Context
from torsh_dialect.evaluate import evaluate
from torsh_fx.importers.torch_call import flatten_inputs, to_numpy, to_torch, unflatten_outputs
from torsh_fx.importers.torch_export import import_exported_program


class Function(torch.nn.Module):
    """A module that calls a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *args):
        return self.function(*args)


class Total(torch.nn.Module):
    """Keeps the sum of what it was given in a buffer, and gives a multiple of it."""

    def __init__(self, width, times):
        super().__init__()
        self.register_buffer("total", torch.zeros(width))
        self.times = times

    def forward(self, x):
        self.total.add_(x)
        return self.total * self.times


def imported(model, args, *, dynamic=None, decompose=False):
    module = model if isinstance(model, torch.nn.Module) else Function(model)
    with torch.no_grad():
        program = torch.export.export(module.eval(), args, dynamic_shapes=dynamic, strict=False)
        program = program.run_decompositions() if decompose else program
    result = import_exported_program(program, Context())
    result.module.verify()
    return result


def called(model, args, state=None):
    """The model's results and the next values of its state, by the reference interpreter."""
    arrays = [to_numpy(torch.as_tensor(v)) for v in flatten_inputs(model.interface, args, {})]
    arrays += [model.weights[s.weight] if state is None else state[s.name] for s in model.state]
    outputs = evaluate(model.module, arrays, model.weights)
    following = {s.name: outputs[s.output] for s in model.state}
    return unflatten_outputs(model.interface, [to_torch(o) for o in outputs]), following


def compared(actual, expected, tolerance=1e-5):
    left, right = pytree.tree_leaves(actual), pytree.tree_leaves(expected)
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        if not isinstance(b, torch.Tensor):
            assert a == b
            continue
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b.detach(), rtol=tolerance, atol=tolerance, equal_nan=True)


def check(model, args, *others, tolerance=1e-5, dynamic=None, decompose=False):
    """Import with `args`; compare on them and on every other argument tuple."""
    result = imported(model, args, dynamic=dynamic, decompose=decompose)
    module = model if isinstance(model, torch.nn.Module) else Function(model)
    for arguments in (args, *others):
        with torch.no_grad():
            expected = module(*(a.clone() if isinstance(a, torch.Tensor) else a for a in arguments))
        compared(called(result, arguments)[0], expected, tolerance)
    return result


def ops(model):
    """The names of the ops of `@main`, regions included."""
    return [op.name.removeprefix("torsh.") for op in model.module.walk()]


__all__ = ["Function", "Total", "called", "check", "compared", "imported", "np", "ops"]
