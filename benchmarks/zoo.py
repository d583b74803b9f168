"""The model zoo: well-known architectures built from their published configurations.

Random weights with a fixed seed, float32, batch 1 unless the name says otherwise. `MODELS` maps
a name to a function that gives the module and its example inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

Build = Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act=nn.ReLU):
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([act(inplace=False)] if act else []))


class Bottleneck(nn.Module):
    """ResNet v1.5's block: 1x1, 3x3 (with the stride), 1x1, and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            conv_bn(inputs, width, 1),
            conv_bn(width, width, 3, stride),
            conv_bn(width, 4 * width, 1, act=None),
        )
        same = stride == 1 and inputs == 4 * width
        self.shortcut = nn.Identity() if same else conv_bn(inputs, 4 * width, 1, stride, act=None)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def resnet50() -> tuple[nn.Module, tuple[Tensor, ...]]:
    layers: list[nn.Module] = [conv_bn(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            width = 64 << stage
            layers.append(Bottleneck(inputs, width, 2 if stage and not block else 1))
            inputs = 4 * width
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000))
    return nn.Sequential(*layers, *head), (torch.randn(1, 3, 224, 224),)


class InvertedResidual(nn.Module):
    """MobileNetV2's block; with squeeze-and-excite, EfficientNet's."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int, kernel: int, act, se):
        super().__init__()
        hidden = inputs * expand
        layers = [conv_bn(inputs, hidden, 1, act=act)] if expand != 1 else []
        layers.append(conv_bn(hidden, hidden, kernel, stride, hidden, act))
        if se:
            layers.append(SqueezeExcite(hidden, max(1, inputs // 4)))
        layers.append(conv_bn(hidden, outputs, 1, act=None))
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.down = nn.Conv2d(channels, squeezed, 1)
        self.up = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = F.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.up(F.silu(self.down(scale))))


def _inverted(stem: int, rows, last: int, act, se: bool) -> nn.Module:
    layers, inputs = [conv_bn(3, stem, 3, 2, act=act)], stem
    for expand, outputs, count, stride, kernel in rows:
        for n in range(count):
            step = stride if n == 0 else 1
            layers.append(InvertedResidual(inputs, outputs, step, expand, kernel, act, se))
            inputs = outputs
    layers += [conv_bn(inputs, last, 1, act=act), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(last, 1000))


def mobilenet_v2() -> tuple[nn.Module, tuple[Tensor, ...]]:
    rows = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3),
            (6, 96, 3, 1, 3), (6, 160, 3, 2, 3), (6, 320, 1, 1, 3))  # fmt: skip
    return _inverted(32, rows, 1280, nn.ReLU6, False), (torch.randn(1, 3, 224, 224),)


def efficientnet_b0() -> tuple[nn.Module, tuple[Tensor, ...]]:
    rows = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3),
            (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3))  # fmt: skip
    return _inverted(32, rows, 1280, nn.SiLU, True), (torch.randn(1, 3, 224, 224),)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over channels of [N, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.down(F.gelu(self.up(y))) * self.scale
        return x + y.permute(0, 3, 1, 2)


def convnext_tiny() -> tuple[nn.Module, tuple[Tensor, ...]]:
    layers: list[nn.Module] = [nn.Conv2d(3, 96, 4, 4), ChannelNorm(96, eps=1e-6)]
    width = 96
    for stage, blocks in enumerate((3, 3, 9, 3)):
        if stage:
            layers += [ChannelNorm(width, eps=1e-6), nn.Conv2d(width, 2 * width, 2, 2)]
            width *= 2
        layers += [ConvNextBlock(width) for _ in range(blocks)]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(width, eps=1e-6))
    return nn.Sequential(*layers, *head, nn.Linear(width, 1000)), (torch.randn(1, 3, 224, 224),)


class UNet(nn.Module):
    """Three levels, transposed convolutions up, skip connections by concatenation."""

    def __init__(self, width: int = 32):
        super().__init__()
        double = lambda i, o: nn.Sequential(conv_bn(i, o, 3), conv_bn(o, o, 3))  # noqa: E731
        self.down = nn.ModuleList([double(3, width), double(width, 2 * width)])
        self.middle = double(2 * width, 4 * width)
        self.ups = nn.ModuleList(
            [
                nn.ConvTranspose2d(4 * width, 2 * width, 2, 2),
                nn.ConvTranspose2d(2 * width, width, 2, 2),
            ]
        )
        self.join = nn.ModuleList([double(4 * width, 2 * width), double(2 * width, width)])
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level in self.down:
            x = level(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.middle(x)
        for up, join in zip(self.ups, self.join, strict=True):
            x = join(torch.cat([up(x), skips.pop()], 1))
        return self.head(x)


def unet_small() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return UNet(), (torch.randn(1, 3, 256, 256),)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, causal: bool = False):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, length, width = x.shape
        shaped = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = shaped.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).reshape(x.shape))


class Block(nn.Module):
    """A transformer block; normalised before (ViT, GPT-2) or after (BERT) each half."""

    def __init__(self, width: int, heads: int, *, before: bool, causal: bool = False, act=F.gelu):
        super().__init__()
        self.attention = Attention(width, heads, causal)
        self.norms = nn.ModuleList([nn.LayerNorm(width, eps=1e-6) for _ in range(2)])
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.before, self.act = before, act

    def mlp(self, x: Tensor) -> Tensor:
        return self.down(self.act(self.up(x)))

    def forward(self, x: Tensor) -> Tensor:
        if self.before:
            x = x + self.attention(self.norms[0](x))
            return x + self.mlp(self.norms[1](x))
        x = self.norms[0](x + self.attention(x))
        return self.norms[1](x + self.mlp(x))


class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 768, 16, 16)
        self.token = nn.Parameter(torch.randn(1, 1, 768) * 0.02)
        self.position = nn.Parameter(torch.randn(1, 197, 768) * 0.02)
        self.blocks = nn.Sequential(*(Block(768, 12, before=True) for _ in range(12)))
        self.norm, self.head = nn.LayerNorm(768, eps=1e-6), nn.Linear(768, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


def vit_b16() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return ViT(), (torch.randn(1, 3, 224, 224),)


class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.positions = nn.Embedding(30522, 768), nn.Embedding(512, 768)
        self.norm = nn.LayerNorm(768, eps=1e-12)
        self.blocks = nn.Sequential(*(Block(768, 12, before=False) for _ in range(12)))
        self.pool = nn.Linear(768, 768)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        x = self.words(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        x = self.blocks(self.norm(x))
        return x, torch.tanh(self.pool(x[:, 0]))


def bert_base_128() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Bert(), (torch.randint(0, 30522, (1, 128)),)


def gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


class Gpt2(nn.Module):
    """GPT-2 small; `forward` is the prefill of a prompt."""

    def __init__(self):
        super().__init__()
        self.words, self.positions = nn.Embedding(50257, 768), nn.Embedding(1024, 768)
        block = lambda: Block(768, 12, before=True, causal=True, act=gelu_tanh)  # noqa: E731
        self.blocks = nn.ModuleList([block() for _ in range(12)])
        self.norm = nn.LayerNorm(768)

    def logits(self, x: Tensor) -> Tensor:
        return F.linear(self.norm(x), self.words.weight)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        return self.logits(x[:, -1])


class Gpt2Decode(Gpt2):
    """One token with a cache of keys and values: [layers, 2, 1, heads, length, 64]."""

    def forward(self, token: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        length = cache.shape[4]
        x = self.words(token) + self.positions(torch.full_like(token, length))
        added = []
        for n, block in enumerate(self.blocks):
            q, k, v = block.attention.split(block.norms[0](x))
            added.append(torch.stack([k, v]))
            k, v = torch.cat([cache[n, 0], k], 2), torch.cat([cache[n, 1], v], 2)
            y = F.scaled_dot_product_attention(q, k, v)
            x = x + block.attention.out(y.transpose(1, 2).reshape(x.shape))
            x = x + block.mlp(block.norms[1](x))
        return self.logits(x[:, -1]), torch.stack(added)


def gpt2_prefill_128() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Gpt2(), (torch.randint(0, 50257, (1, 128)),)


def gpt2_decode_128() -> tuple[nn.Module, tuple[Tensor, ...]]:
    cache = torch.randn(12, 2, 1, 12, 128, 64)
    return Gpt2Decode(), (torch.randint(0, 50257, (1, 1)), cache)


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(64, 256, batch_first=True), nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        return self.head(y[:, -1])


def lstm_256() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Lstm(), (torch.randn(1, 100, 64),)


def _mlp(batch: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    layers = (nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    return nn.Sequential(*layers), (torch.randn(batch, 784),)


def audio_cnn() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Depthwise-separable keyword spotting (DS-CNN large) on a log-mel spectrogram."""
    layers = [nn.Conv2d(1, 276, (10, 4), (2, 1), (4, 1)), nn.BatchNorm2d(276), nn.ReLU()]
    for _ in range(5):
        layers += [conv_bn(276, 276, 3, 1, 276), conv_bn(276, 276, 1)]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(276, 12))
    return nn.Sequential(*layers, *head), (torch.randn(1, 1, 98, 40),)


MODELS: dict[str, Build] = {
    "resnet50": resnet50,
    "mobilenet_v2": mobilenet_v2,
    "efficientnet_b0": efficientnet_b0,
    "convnext_tiny": convnext_tiny,
    "unet_small": unet_small,
    "vit_b16": vit_b16,
    "bert_base_128": bert_base_128,
    "gpt2_prefill_128": gpt2_prefill_128,
    "gpt2_decode_128": gpt2_decode_128,
    "lstm_256": lstm_256,
    "mlp_b1": lambda: _mlp(1),
    "mlp_b64": lambda: _mlp(64),
    "audio_cnn": audio_cnn,
}


@dataclass(frozen=True)
class Model:
    """A zoo model, ready to run: evaluation mode, statistics that are not trivial."""

    name: str
    module: nn.Module
    inputs: tuple[Tensor, ...]


def build(name: str) -> Model:
    """Build a model of the zoo with seed 0."""
    torch.manual_seed(0)
    module, inputs = MODELS[name]()
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
    return Model(name, module.eval().requires_grad_(False), inputs)


def export_onnx(model: Model, path: str) -> None:
    """Write the model as ONNX, opset 17, through torch's TorchScript exporter."""
    names = [f"input{n}" for n in range(len(model.inputs))]
    torch.onnx.export(
        model.module, model.inputs, path, dynamo=False, opset_version=17, input_names=names
    )
