"""Layers in half precision: as near to float64 as torch is, computed by the templates of f32."""

import pytest
import torch

import torsh_fx

F = torch.nn.functional


class Attention(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(x, x, x, is_causal=True)


class Product(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ x.mT


LAYERS = {
    "linear": (torch.nn.Linear(48, 33), (5, 48), "gemm"),
    "conv": (torch.nn.Conv2d(8, 12, 3, padding=1), (2, 8, 9, 7), "conv"),
    "transposed": (torch.nn.ConvTranspose2d(8, 6, 2, 2), (1, 8, 5, 5), "conv_transposed"),
    "softmax": (torch.nn.Softmax(-1), (6, 100), "softmax"),
    "layer norm": (torch.nn.LayerNorm(50), (4, 50), "norm"),
    "attention": (Attention(), (2, 3, 10, 16), "attention"),
    "product": (Product(), (3, 20, 16), "batched_gemm"),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_layer(name: str, dtype: torch.dtype) -> None:
    layer, shape, template = LAYERS[name]
    layer = layer.to(dtype).eval()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(dtype)
    f = torsh_fx.compile(layer, (x,))
    names = [kernel.name for kernel in f.program.spec.kernels]
    assert any(kernel.startswith(f"{template}_") for kernel in names), names
    with torch.no_grad():
        theirs = layer(x).double()
        exact = layer.double()(x.double())
    ours = f(x)
    assert ours.dtype == dtype
    scale = exact.pow(2).mean().sqrt()
    mine, other = ((y.double() - exact).pow(2).mean().sqrt() for y in (ours, theirs))
    ulp = torch.finfo(dtype).eps * scale
    assert mine <= max(1.5 * other, ulp / 2)
