"""Fake quantisation, torchao's blocks and products of bytes in exported programs, against eager."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from torch._higher_order_ops.out_dtype import out_dtype
from torch_oracle import Function

import torsh_fx
from torsh_dialect.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore")
torch.manual_seed(23)


def compiled_and_wanted(function, *args, dynamic=True):
    """A compiled function, its first axis dynamic, and what eager torch gives."""
    axis = {0: torch.export.Dim("rows", min=1, max=64)}
    shapes = ((axis,) * len(args),) if dynamic else None
    program = torch.export.export(Function(function), args, dynamic_shapes=shapes)
    return torsh_fx.compile(program), function(*args)


def equal(function, *args, dynamic=True):
    compiled, wanted = compiled_and_wanted(function, *args, dynamic=dynamic)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    for ours, theirs in zip(compiled.run([a.numpy() for a in args]), wanted, strict=True):
        torch.testing.assert_close(torch.from_numpy(ours), theirs, rtol=0, atol=0)


@pytest.mark.parametrize("ends", [(0, 255), (-127, 127), (-8, 7)])
def test_fake_quantisation(ends):
    low, high = ends
    scales, zeros = torch.rand(7) * 0.05 + 0.001, torch.randint(low, high, (7,))
    zeros = zeros.to(torch.int32)

    def function(x):
        masked = torch.ops.aten.fake_quantize_per_channel_affine_cachemask(
            x, scales, zeros, 1, low, high
        )
        return (
            torch.fake_quantize_per_tensor_affine(x, 0.021, 3, low, high),
            torch.fake_quantize_per_tensor_affine(x, scales[:1], zeros[:1], low, high),
            torch.fake_quantize_per_channel_affine(x, scales, zeros, 1, low, high),
            *masked,
        )

    x = torch.randn(5, 7) * 3
    x[0, 0] = float("nan")  # the least integer
    equal(function, x, dynamic=False)  # torch has no meta kernels of these


def test_fake_quantisation_is_switched():
    scale, zero = torch.tensor([0.03]), torch.tensor([2], dtype=torch.int32)
    for on in (0, 1):
        enabled = torch.tensor([on], dtype=torch.int64)
        equal(
            lambda x, on=enabled: (
                torch.ops.aten._fake_quantize_per_tensor_affine_cachemask_tensor_qparams(
                    x, scale, zero, on, 0, 15
                )
            ),
            torch.randn(4, 6),
            dynamic=False,
        )


BLOCKS = {
    "one": ((8, 12), torch.int8, torch.float32),
    "rows": ((1, 12), torch.int8, torch.float32),
    "columns": ((8, 1), torch.int8, torch.float32),
    "of the last axis": ((1, 4), torch.int8, torch.float32),
    "of the first axis": ((2, 12), torch.int8, torch.float32),
    "of both": ((4, 3), torch.int8, torch.float32),
    "wide zero points": ((1, 4), torch.int32, torch.float32),
    "in bfloat16": ((1, 4), torch.int8, torch.bfloat16),
}


@pytest.mark.parametrize("activation", [False, True])
@pytest.mark.parametrize("name", BLOCKS)
def test_torchao_blocks(name, activation):
    """As a function of the integers with strict numerics: no product is rearranged."""
    import torchao.quantization.quant_primitives as primitives

    block, zeros, to = BLOCKS[name]
    counts = tuple(d // b for d, b in zip((8, 12), block, strict=True))
    scale, most = torch.rand(counts).to(to) * 0.1 + 0.01, 300 if zeros == torch.int32 else 90
    zero = torch.randint(-most, most, counts, dtype=zeros)
    q = torch.randint(-128, 128, (8, 12), dtype=torch.int8)

    def function(x):
        y = primitives.dequantize_affine(
            x if activation else q, block, scale, zero, torch.int8, output_dtype=to
        )
        return y.float() if activation else (y.float() + x.float() * 0)

    program = torch.export.export(Function(function), (q,))
    strict = Settings(numerics="strict")
    (ours,) = torsh_fx.compile(program, settings=strict).run([q.numpy()])
    torch.testing.assert_close(torch.from_numpy(ours), function(q), rtol=0, atol=0)


def quantised(config):
    from torchao.quantization import quantize_

    model = torch.nn.Sequential(torch.nn.Linear(64, 96), torch.nn.ReLU(), torch.nn.Linear(96, 40))
    quantize_(model.eval(), config)
    return model


def configurations():
    import torchao.quantization as ao

    groups = ao.PerGroup(32)
    return {
        "int8 by int8": (ao.Int8DynamicActivationInt8WeightConfig(), "packed_linear_integer"),
        "int8 by rows": (
            ao.Int8DynamicActivationIntxWeightConfig(
                weight_dtype=torch.int8, weight_granularity=ao.PerAxis(0)
            ),
            "packed_linear_integer",
        ),
        "int8 weights": (ao.Int8WeightOnlyConfig(), "packed_linear_blocks"),
        "int4 groups": (
            ao.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=groups),
            "packed_linear_blocks",
        ),
    }


@pytest.mark.parametrize("name", ["int8 by int8", "int8 by rows", "int8 weights", "int4 groups"])
def test_torchao_models_run_on_integer_kernels(name):
    config, kernel = configurations()[name]
    model, x = quantised(config), torch.randn(5, 64)
    axis = {0: torch.export.Dim("rows", min=1, max=64)}
    compiled = torsh_fx.compile(torch.export.export(model, (x,), dynamic_shapes=(axis,)))
    assert str(compiled.optimised).count(f"torsh.{kernel} ") == 2
    for rows in (x, torch.randn(1, 64), torch.randn(17, 64)):
        wanted = model(rows).detach()
        ours = torch.from_numpy(compiled.run([rows.numpy()])[0])
        # a rounding that falls the other way moves an activation by 1 / 127 of its row's largest
        torch.testing.assert_close(ours, wanted, rtol=0, atol=0.004 * float(wanted.abs().max()))


def test_products_of_bytes_are_exact():
    weights = torch.randint(-128, 128, (96, 40), dtype=torch.int8)
    compiled, wanted = compiled_and_wanted(
        lambda x: torch._int_mm(x, weights), torch.randint(-128, 128, (24, 96), dtype=torch.int8)
    )
    assert "torsh.packed_linear_integer " in str(compiled.optimised)
    x = torch.randint(-128, 128, (24, 96), dtype=torch.int8)
    wanted = x.int() @ weights.int()
    torch.testing.assert_close(torch.from_numpy(compiled.run([x.numpy()])[0]), wanted)


def test_results_of_another_type():
    """`out_dtype`, which torchao's reference graphs are written with."""
    aten = torch.ops.aten
    weights = torch.randint(-128, 128, (16, 5), dtype=torch.int8)
    filters = torch.randint(-128, 128, (4, 3, 2, 2), dtype=torch.int8)

    def function(a, image):
        return (
            out_dtype(aten.mm.default, torch.int32, a, weights),
            out_dtype(aten.mul.Tensor, torch.int32, a, 0.37),
            out_dtype(aten.div.Tensor, torch.int32, a, 7.0),
            out_dtype(aten.mul.Tensor, torch.int32, a, a),
            out_dtype(
                aten.convolution.default, torch.int32, image, filters, None, [1, 2], [1, 0],
                [1, 1], False, [0, 0], 1,
            ),
        )  # fmt: skip

    a = torch.randint(-128, 128, (6, 16), dtype=torch.int8)
    equal(function, a, torch.randint(-128, 128, (6, 3, 5, 7), dtype=torch.int8))


def test_zero_points_that_are_floats():
    """Embeddings that PT2E quantises have such: they are no integers of the weights' type."""
    import_module("torch.ao.quantization.fx._decomposed")  # defines the operators
    decomposed = torch.ops.quantized_decomposed
    q = torch.randint(0, 256, (20, 6), dtype=torch.uint8)
    scale, zero = torch.rand(20) * 0.02 + 0.01, torch.rand(20) * 90 + 80

    def function(x):
        table = decomposed.dequantize_per_channel(q, scale, zero, 0, 0, 255, torch.uint8)
        return torch.nn.functional.embedding(x, table)

    equal(function, torch.randint(0, 20, (5, 3)))
