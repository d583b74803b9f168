"""Kernel templates against torch, one thread, in interleaved pairs.

    python benchmarks/templates.py [--target x86-64-v3] [--only gemm,conv,...] [--rounds 40]

Each row: GF/s of ours (executed operations), percent of the measured FMA peak, and the median of
paired ratios torch time / our time. A row above 100 % of peak stops the run: it would be a
mistake of measurement.
"""

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lowering.cpu import jit
from lowering.cpu.templates import (
    batched,
    conv,
    conv_transposed,
    depthwise,
    gemm,
    int8,
    pack,
    pool,
    winograd,
)
from lowering.cpu.templates.window import Axis
from lowering.cpu.text import Module, Text
from torsh_dialect.target import TARGETS, TargetInfo

if "x86-64-v4" not in sys.argv:
    # Equal instruction sets on both sides; oneDNN reads this when it is first used.
    os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"
import torch

PEAK_SAMPLES = 400


@dataclass
class Row:
    name: str
    flops: int
    ours: Callable[[], None]
    peers: dict[str, Callable[[], object]]
    keep: tuple[object, ...]
    float_peak: bool = True


def bound(compiled: jit.Compiled, name: str, words: list, extent: int) -> Callable[[], None]:
    """A call with everything looked up beforehand."""
    record = jit.argument_words(words)
    function, address = compiled.pointer(name), record.ctypes.data
    keep = (record, words, compiled)

    def call(keep=keep) -> None:
        function(address, 0, extent, 0)

    return call


def measure_peak(target: TargetInfo) -> float:
    """GF/s of independent FMA chains in registers: the best of many short runs."""
    module, iterations = Module(), 20_000
    text = Text(module, "peak")
    data = text.argument(0)
    type = f"<{target.lanes(4)} x float>"
    chains = 12 if target.vector_registers <= 16 else 24
    a, b = text.load(type, data), text.load(type, data)

    def body(_, values):
        for _unused in range(2):
            values = [text.fma(type, a, b, value) for value in values]
        return values

    start = [(type, text.load(type, text.at(data, 16 * i))) for i in range(chains)]
    for i, value in enumerate(text.loop(0, iterations, 1, body, start)):
        text.store(type, value, text.at(data, 16 * i))
    text.finish()
    compiled = jit.compile_module(module, target, ["peak"])
    data_array = jit.aligned((16 * chains,))
    call = bound(compiled, "peak", [data_array], 1)
    best = min(_timed(call) for _ in range(PEAK_SAMPLES))
    return chains * 2 * 2 * target.lanes(4) * iterations / best / 1e9


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def gemm_rows(target: TargetInfo, rng: np.random.Generator) -> Iterator[Row]:
    shapes = [
        (1024, 1024, 1024), (2048, 2048, 2048), (128, 768, 768), (128, 3072, 768),
        (128, 768, 3072), (49, 2048, 512), (49, 512, 2048), (196, 1024, 256),
        (196, 256, 1024), (3136, 64, 64), (12544, 64, 147), (1, 3072, 768), (4, 3072, 768),
    ]  # fmt: skip
    for m, n, k in shapes:
        module, params, packing = Module(), gemm.GemmParams(n, k), pack.pack_nk(n, k)
        gemm.emit(module, "gemm", params, target)
        pack.emit(module, "pack", packing, target)
        compiled = jit.compile_module(module, target, ["gemm", "pack"])
        weight = rng.standard_normal((n, k)).astype(np.float32)
        packed = jit.aligned(pack.packed_dims(packing, target))
        panels = pack.parallel_extent(packing, target).value(1)
        compiled.kernel("pack")([weight, packed], 0, panels)
        a, c = jit.aligned((m, k)), jit.aligned((m, n))
        a[:] = rng.standard_normal((m, k))
        extent = gemm.parallel_extent(params, target).value(m)
        ours = bound(compiled, "gemm", [a, packed, c, m], extent)
        ta, tw = torch.from_numpy(a), torch.from_numpy(weight)
        peers = {"linear": lambda ta=ta, tw=tw: torch.nn.functional.linear(ta, tw)}
        yield Row(f"gemm {m}x{n}x{k}", gemm.flops(params, m), ours, peers, (a, c, ta, tw))


def torch_conv_peers(x: np.ndarray, weight: np.ndarray, stride: int, pad: int, groups: int):
    """Eager channels-last, and oneDNN with its weight packed beforehand."""
    image = torch.from_numpy(x).permute(0, 3, 1, 2)
    plain = torch.from_numpy(weight)
    kernel = plain.to(memory_format=torch.channels_last)
    dims = list(image.shape)
    packed = torch._C._nn.mkldnn_reorder_conv2d_weight(
        plain.to_mkldnn(), [pad, pad], [stride, stride], [1, 1], groups, dims
    )
    pointwise = torch.ops.mkldnn._convolution_pointwise
    args = (None, [pad, pad], [stride, stride], [1, 1], groups, "none", [], "")
    return {
        "eager": lambda: torch.nn.functional.conv2d(
            image, kernel, stride=stride, padding=pad, groups=groups
        ),
        "onednn": lambda: pointwise(image, packed, *args),
    }


def conv_rows(target: TargetInfo, rng: np.random.Generator) -> Iterator[Row]:
    shapes = [
        (512, 7, 512, 3, 1), (256, 14, 256, 3, 1), (128, 28, 128, 3, 1), (64, 56, 64, 3, 1),
        (512, 7, 2048, 1, 1), (2048, 7, 512, 1, 1), (64, 56, 256, 1, 1), (1024, 14, 256, 1, 1),
        (256, 28, 512, 3, 2), (3, 224, 64, 7, 2), (3, 224, 32, 3, 2), (16, 56, 32, 3, 1),
    ]  # fmt: skip
    for channels, size, out, kernel, stride in shapes:
        pad, dims = kernel // 2, (kernel, kernel)
        axis = Axis(kernel, stride, 1, pad, pad)
        params = conv.ConvParams(channels, out, axis, axis, dims=(None, size, size))
        module, packing = Module(), pack.pack_conv(out, channels, dims)
        conv.emit(module, "conv", params, target)
        pack.emit(module, "pack", packing, target)
        compiled = jit.compile_module(module, target, ["conv", "pack"])
        weight = rng.standard_normal((out, channels, *dims)).astype(np.float32)
        packed = jit.aligned(pack.packed_dims(packing, target))
        panels = pack.parallel_extent(packing, target).value(1)
        compiled.kernel("pack")([weight, packed], 0, panels)
        x, y = jit.aligned((1, size, size, channels)), axis.output(size)
        x[:] = rng.standard_normal(x.shape)
        result, bytes_ = jit.aligned((1, y, y, out)), conv.scratch_bytes(params)
        scratch = jit.aligned((bytes_ + 64,), np.uint8)
        extent = conv.parallel_extent(params, target).value(y if params.strip else y * y)
        words = [x, packed, result, 1, size, size, scratch, bytes_]
        yield Row(
            f"conv {channels}x{size} -> {out} k{kernel} s{stride}",
            conv.flops(params, 1, size, size), bound(compiled, "conv", words, extent),
            torch_conv_peers(x, weight, stride, pad, 1), (x, result),
        )  # fmt: skip


def winograd_rows(target: TargetInfo, rng: np.random.Generator) -> Iterator[Row]:
    for channels, size, out in ((64, 56, 64), (128, 28, 128), (256, 14, 256), (512, 7, 512)):
        axis = Axis(3, 1, 1, 1, 1)
        params = winograd.WinogradParams(channels, out, axis, axis, dims=(None, size, size))
        module = Module()
        winograd.emit(module, "conv", params, target)
        winograd.emit_pack(module, "pack", params, target)
        compiled = jit.compile_module(module, target, ["conv", "pack"])
        weight = rng.standard_normal((out, channels, 3, 3)).astype(np.float32)
        packed = jit.aligned(winograd.packed_dims(params, target))
        compiled.kernel("pack")([weight, packed], 0, packed.shape[0])
        x, result = jit.aligned((1, size, size, channels)), jit.aligned((1, size, size, out))
        x[:] = rng.standard_normal(x.shape)
        bytes_ = winograd.scratch_bytes(params, target)
        scratch = jit.aligned((bytes_,), np.uint8)
        extent = winograd.parallel_extent(params, target).value(params.tiles(1, size, size))
        words = [x, packed, result, 1, size, size, scratch, bytes_]
        yield Row(
            f"winograd {channels}x{size} -> {out}",
            winograd.flops(params, 1, size, size), bound(compiled, "conv", words, extent),
            torch_conv_peers(x, weight, 1, 1, 1), (x, result),
        )  # fmt: skip


def batched_rows(target: TargetInfo, rng: np.random.Generator) -> Iterator[Row]:
    shapes = [(12, 128, 128, 64), (12, 512, 512, 64), (12, 1, 512, 64), (1, 512, 512, 512)]
    for transposed in (True, False):
        for batch, m, n, k in shapes:
            if not transposed:
                n, k = k, n
            # The head size is static in attention, sequence lengths are not.
            params = batched.BatchedGemmParams(
                transposed, None if transposed else n, k if transposed else None
            )
            module = Module()
            batched.emit(module, "matmul", params, target)
            compiled = jit.compile_module(module, target, ["matmul"])
            a, c = jit.aligned((batch, m, k)), jit.aligned((batch, m, n))
            b = jit.aligned((batch, n, k) if transposed else (batch, k, n))
            a[:], b[:] = rng.standard_normal(a.shape), rng.standard_normal(b.shape)
            bytes_ = batched.scratch_bytes(params, target, k)
            scratch = jit.aligned((bytes_,), np.uint8)
            words = [
                a, b, c, m, n, k, batch, k, 0, m * k, b.shape[-1], 0, n * k, n, 0, m * n,
                scratch, bytes_,
            ]  # fmt: skip
            extent = batched.parallel_extent(params, target, batch, n)
            ta, tb = torch.from_numpy(a), torch.from_numpy(b)
            tb = tb.transpose(1, 2) if transposed else tb
            yield Row(
                f"batched {batch}x{m}x{n}x{k}{' transposed' * transposed}",
                batched.flops(params, batch, m, n, k), bound(compiled, "matmul", words, extent),
                {"bmm": lambda ta=ta, tb=tb: torch.bmm(ta, tb)}, (a, b, c),
            )  # fmt: skip


def depthwise_rows(target: TargetInfo, rng: np.random.Generator) -> Iterator[Row]:
    shapes = [
        (32, 112, 3, 1), (96, 112, 3, 2), (144, 56, 3, 1), (384, 14, 3, 1), (960, 7, 3, 1),
        (240, 28, 5, 1),
    ]  # fmt: skip
    for channels, size, kernel, stride in shapes:
        pad = kernel // 2
        axis = Axis(kernel, stride, 1, pad, pad)
        params = depthwise.DepthwiseParams(channels, axis, axis, dims=(None, size, size))
        module, packing = Module(), depthwise.packing(params)
        depthwise.emit(module, "conv", params, target)
        pack.emit(module, "pack", packing, target)
        compiled = jit.compile_module(module, target, ["conv", "pack"])
        weight = rng.standard_normal((channels, 1, kernel, kernel)).astype(np.float32)
        packed = jit.aligned(pack.packed_dims(packing, target))
        panels = pack.parallel_extent(packing, target).value(1)
        compiled.kernel("pack")([weight, packed], 0, panels)
        x, out = jit.aligned((1, size, size, channels)), axis.output(size)
        x[:] = rng.standard_normal(x.shape)
        result = jit.aligned((1, out, out, channels))
        yield Row(
            f"depthwise {channels}x{size} k{kernel} s{stride}",
            depthwise.flops(params, 1, size, size),
            bound(compiled, "conv", [x, packed, result, 1, size, size], out),
            torch_conv_peers(x, weight, stride, pad, channels), (x, result),
        )  # fmt: skip


def pool_rows(target: TargetInfo, rng: np.random.Generator) -> Iterator[Row]:
    shapes = (("max", 64, 112, 3, 2, 1), ("avg", 256, 28, 2, 2, 0))
    for kind, channels, size, kernel, stride, pad in shapes:
        axis, module = Axis(kernel, stride, 1, pad, pad), Module()
        params = pool.PoolParams(kind, channels, axis, axis, dims=(None, size, size))
        pool.emit(module, "pool", params, target)
        compiled = jit.compile_module(module, target, ["pool"])
        x, out = jit.aligned((1, size, size, channels)), axis.output(size)
        x[:] = rng.standard_normal(x.shape)
        result, image = jit.aligned((1, out, out, channels)), torch.from_numpy(x)
        image = image.permute(0, 3, 1, 2)
        peer = torch.nn.functional.max_pool2d if kind == "max" else torch.nn.functional.avg_pool2d
        yield Row(
            f"{kind} pool {channels}x{size} k{kernel} s{stride}", pool.flops(params, 1, size, size),
            bound(compiled, "pool", [x, 0, result, 1, size, size], out),
            {"eager": lambda f=peer, i=image, a=(kernel, stride, pad): f(i, *a)}, (x, result),
        )  # fmt: skip


def transposed_rows(target: TargetInfo, rng: np.random.Generator) -> Iterator[Row]:
    shapes = ((256, 28, 128, 2, 2, 0), (128, 56, 64, 4, 2, 1), (64, 32, 64, 3, 2, 1))
    for channels, size, out, kernel, stride, pad in shapes:
        axis = conv_transposed.TransposedAxis(kernel, stride, 1, pad, pad)
        params = conv_transposed.TransposedConvParams(
            channels, out, axis, axis, dims=(None, size, size)
        )
        module = Module()
        conv_transposed.emit(module, "conv", params, target)
        conv_transposed.emit_pack(module, "pack", params, target)
        compiled = jit.compile_module(module, target, ["conv", "pack"])
        weight = rng.standard_normal((channels, out, kernel, kernel)).astype(np.float32)
        packed = jit.aligned(conv_transposed.packed_dims(params, target))
        compiled.kernel("pack")([weight, packed], 0, packed.shape[1])
        x, y = jit.aligned((1, size, size, channels)), axis.output(size)
        x[:] = rng.standard_normal(x.shape)
        result = jit.aligned((1, y, y, out))
        units = conv_transposed.parallel_extent(params, target).value((-(-y // stride)) ** 2)
        image, filters = torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(weight)
        filters = filters.to(memory_format=torch.channels_last)
        peer = torch.nn.functional.conv_transpose2d
        yield Row(
            f"transposed {channels}x{size} -> {out} k{kernel} s{stride}",
            conv_transposed.flops(params, 1, size, size),
            bound(compiled, "conv", [x, packed, result, 1, size, size], units),
            {"eager": lambda f=peer, i=image, w=filters, s=stride, p=pad: f(i, w, None, s, p)},
            (x, result),
        )  # fmt: skip


def int8_rows(target: TargetInfo, rng: np.random.Generator) -> Iterator[Row]:
    for m, n, k in ((128, 768, 768), (512, 512, 512), (1, 3072, 768)):
        params, module = int8.Int8GemmParams(n, k, signed=False), Module()
        int8.emit(module, "gemm", params, target)
        int8.emit_pack(module, "pack", params, target, (k, 1))
        compiled = jit.compile_module(module, target, ["gemm", "pack"])
        weight = rng.integers(-128, 128, (n, k)).astype(np.int8)
        packed = jit.aligned(int8.packed_dims(params, target), np.int8)
        compiled.kernel("pack")([weight, packed], 0, packed.shape[0])
        a, c = jit.aligned((m, k), np.uint8), jit.aligned((m, n), np.int32)
        a[:] = rng.integers(0, 256, a.shape)
        units = int8.parallel_extent(params, target).value(m)
        ta, tw = torch.from_numpy(a).float(), torch.from_numpy(weight).float()
        yield Row(
            f"int8 {m}x{n}x{k}", int8.operations(params, m),
            bound(compiled, "gemm", [a, packed, c, m], units),
            {"f32 linear": lambda ta=ta, tw=tw: torch.nn.functional.linear(ta, tw)}, (a, c),
            float_peak=False,
        )  # fmt: skip


SUITES = {
    "gemm": gemm_rows,
    "conv": conv_rows,
    "winograd": winograd_rows,
    "batched": batched_rows,
    "depthwise": depthwise_rows,
    "pool": pool_rows,
    "transposed": transposed_rows,
    "int8": int8_rows,
}


def measure(row: Row, rounds: int) -> tuple[float, dict[str, float]]:
    """Best time of ours, and the median paired ratio of each peer."""
    calls: dict[str, Callable[[], object]] = {"ours": row.ours, **row.peers}
    for call in calls.values():
        call()
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            times[name].append(_timed(calls[name]))
    ratios = {
        name: statistics.median(p / o for p, o in zip(times[name], times["ours"], strict=True))
        for name in row.peers
    }
    return min(times["ours"]), ratios


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--target", default="x86-64-v3", choices=sorted(TARGETS))
    parser.add_argument("--only", default=",".join(SUITES))
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    target = TARGETS[options.target]
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    peak = measure_peak(target)
    print(f"target {target.name}, measured peak {peak:.1f} GF/s (best of {PEAK_SAMPLES})")
    with torch.no_grad():
        for suite in options.only.split(","):
            for row in SUITES[suite](target, rng):
                best, ratios = measure(row, options.rounds)
                speed = row.flops / best / 1e9
                ratio = ", ".join(f"{name}/ours {value:.2f}" for name, value in ratios.items())
                print(f"{row.name:32s} {best * 1e3:8.3f} ms {speed:7.1f} GF/s "
                      f"{100 * speed / peak:4.0f} %  {ratio}", flush=True)  # fmt: skip
                if row.float_peak and speed > 1.03 * peak:
                    print("faster than the measured peak: the measurement is wrong")
                    return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
