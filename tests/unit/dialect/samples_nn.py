"""Sample calls of the neural-network ops: operands as arrays, properties as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from torsh_dialect.attributes import dims_attribute
from torsh_dialect.dtypes import bf16, f4e2m1fn, f8e4m3fn, f16, i4, i8, i32, ui8
from torsh_dialect.kinds import TensorOp
from torsh_dialect.ops import (
    attention,
    bits,
    box_muller,
    contract,
    conv,
    determinant,
    norm,
    pool,
    quant,
    random,
    recurrent,
    rejection,
    resize,
    roi,
    sampling,
    signal,
    softmax,
    strided_attention,
)


@dataclass(frozen=True)
class Sample:
    """One call of an op.

    Attributes:
        op: The op's class.
        operands: One array, or None for an optional operand that is missing, for each operand.
        properties: Plain values.
        tolerance: Allowed difference of the expansion, relative to the largest element.
    """

    op: type[TensorOp]
    operands: tuple[Any, ...]
    properties: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-5

    def __str__(self) -> str:
        shapes = ",".join("-" if a is None else "x".join(map(str, a.shape)) for a in self.operands)
        keys = ",".join(f"{k}={v}" for k, v in self.properties.items())
        return f"{self.op.name}[{shapes}]{keys}"[:110]


RNG = np.random.default_rng(7)


def real(*shape: int, dtype: Any = np.float32) -> Any:
    return RNG.standard_normal(shape).astype(dtype)


def whole(low: int, high: int, *shape: int, dtype: Any = np.int64) -> Any:
    return RNG.integers(low, high, shape).astype(dtype)


def _make() -> list[Sample]:
    families = (
        _contract, _window, _norms, _attention, _recurrent, _quant, _sample, _signal, _random
    )  # fmt: skip
    return [sample for family in families for sample in family()]


def _contract() -> list[Sample]:
    mm, lin, ein = contract.MatMulOp, contract.LinearOp, contract.EinsumOp
    return [
        Sample(mm, (real(2, 3), real(3, 4))),
        Sample(mm, (real(3), real(3, 4))),
        Sample(mm, (real(2, 3), real(3))),
        Sample(mm, (real(3), real(3))),
        Sample(mm, (real(5, 1, 2, 3), real(4, 3, 2))),
        Sample(mm, (real(2, 0), real(0, 4))),
        Sample(mm, (real(2, 3, dtype=np.float16), real(3, 4, dtype=np.float16))),
        Sample(mm, (whole(0, 255, 2, 3, dtype=np.uint8), whole(-9, 9, 3, 2, dtype=np.int8)),
               {"accumulate": i32}),
        Sample(lin, (real(2, 5, 3), real(4, 3), real(4))),
        Sample(lin, (real(3), real(4, 3))),
        Sample(ein, (real(2, 3), real(3, 4)), {"equation": "ij,jk->ik"}),
        Sample(ein, (real(3, 3),), {"equation": "ii->i"}),
        Sample(ein, (real(3, 3),), {"equation": "ii->"}),
        Sample(ein, (real(5, 2, 3), real(3, 4)), {"equation": "...ij,jk->...ik"}),
        Sample(ein, (real(2, 3), real(3, 4), real(4, 2)), {"equation": "ij,jk,kl->il"}),
    ]  # fmt: skip


def _window() -> list[Sample]:
    cv, ct = conv.ConvOp, conv.ConvTransposeOp
    mp, mi, ap = pool.MaxPoolOp, pool.MaxPoolIndicesOp, pool.AvgPoolOp
    three = {"kernel": [3, 3], "strides": [2, 2]}
    return [
        Sample(cv, (real(2, 3, 7, 8), real(4, 3, 3, 2), real(4)),
               {"strides": [2, 1], "pads": [1, 0, 2, 1]}),
        Sample(cv, (real(1, 4, 9), real(6, 2, 3)), {"groups": 2, "dilations": [2]}),
        Sample(cv, (real(1, 2, 4, 5, 6), real(3, 2, 2, 2, 2))),
        Sample(cv, (real(1, 7, 8, 3), real(4, 3, 3, 2)), {"data_layout": "NHWC"}),
        Sample(cv, (real(1, 3, 7, 8), real(4, 3, 3, 2)),
               {"strides": [2, 2], "auto_pad": "same_upper"}),
        Sample(cv, (real(1, 4, 6, dtype=np.float16), real(4, 1, 3, dtype=np.float16)),
               {"groups": 4}),
        Sample(ct, (real(1, 3, 4, 5), real(3, 2, 3, 3), real(2)),
               {"strides": [2, 3], "pads": [1, 0, 1, 2], "output_padding": [1, 2]}),
        Sample(ct, (real(1, 4, 5), real(4, 2, 3)), {"groups": 2, "dilations": [2]}),
        Sample(ct, (real(1, 1, 3, 3), real(1, 2, 3, 3)),
               {"strides": [3, 2], "output_extents": [10, 8]}),
        Sample(mp, (real(1, 2, 7, 7),), three),
        Sample(mp, (real(1, 2, 8, 7),), {**three, "ceil_mode": True, "pads": [1, 1, 1, 1]}),
        Sample(mp, (real(1, 2, 9),), {"kernel": [3], "dilations": [2]}),
        Sample(mi, (real(1, 2, 6, 7),), {**three, "pads": [1, 0, 1, 1]}),
        Sample(ap, (real(1, 2, 7, 7),), {**three, "pads": [1, 1, 1, 1], "include_pad": True}),
        Sample(ap, (real(1, 2, 8, 8),), {**three, "ceil_mode": True, "pads": [1, 1, 1, 1]}),
        Sample(ap, (real(1, 2, 9),), {"kernel": [2], "divisor": 3}),
        Sample(pool.LpPoolOp, (real(1, 2, 6, 6),), {"kernel": [2, 2], "p": 3}),
        Sample(pool.AdaptiveAvgPoolOp, (real(1, 2, 7, 5),), {"output": [3, 2]}),
        Sample(pool.AdaptiveMaxPoolOp, (real(1, 2, 7, 5),), {"output": [3, 2]}),
        Sample(pool.MaxUnpoolOp, (real(1, 1, 2, 2), np.array([[[[0, 3], [9, 15]]]])),
               {"output": dims_attribute([4, 4])}),
    ]  # fmt: skip


def _norms() -> list[Sample]:
    eps = {"epsilon": 1e-5}
    c = real(4)
    spread = np.abs(real(4)) + 0.5
    image = real(2, 4, 3, 5)
    return [
        Sample(softmax.SoftmaxOp, (real(2, 3, 4),), {"axis": 1}),
        Sample(softmax.SoftmaxOp, (real(2, 300, dtype=np.float16),), {"axis": -1}),
        Sample(softmax.LogSoftmaxOp, (real(2, 3, 4) * 50,), {"axis": 0}),
        Sample(softmax.HardmaxOp, (np.array([[1, 3, 3], [5, 0, 5]], np.float32),), {"axis": 1}),
        Sample(norm.LayerNormOp, (image, real(3, 5), real(3, 5)), {"axis": 2, **eps}),
        Sample(norm.LayerNormOp, (image, None, None), {"axis": 1, **eps}),
        Sample(norm.RmsNormOp, (image, real(5)), {"axis": -1, **eps}),
        Sample(norm.BatchNormOp, (image, c, real(4), real(4), spread), eps),
        Sample(norm.GroupNormOp, (image, c, real(4)), {"groups": 2, **eps}),
        Sample(norm.InstanceNormOp, (image, c, real(4)), eps),
        Sample(norm.MeanVarianceNormOp, (image,), {"axes": [0, 2, 3], "epsilon": 1e-9}),
        Sample(norm.LpNormalizeOp, (np.array([[0, 0], [3, 4]], np.float32),),
               {"axis": 1, "p": 2, "epsilon": 0.0}),
        Sample(norm.LpNormalizeOp, (image,), {"axis": 0, "p": 1, "epsilon": 1e-12}),
        Sample(norm.LrnOp, (real(1, 6, 2, 3),),
               {"size": 4, "alpha": 0.5, "beta": 0.75, "bias": 1.5}),
    ]  # fmt: skip


def _attention() -> list[Sample]:
    at = attention.AttentionOp
    q, k, v = real(2, 4, 3, 8), real(2, 2, 5, 8), real(2, 2, 5, 6)
    hidden = np.ones((3, 5), bool)
    hidden[1] = False
    ro = attention.RotaryEmbeddingOp
    angles = (np.cos(real(1, 3, 2)), np.sin(real(1, 3, 2)))
    return [
        Sample(at, (q, k, v)),
        Sample(at, (q, k, v, real(2, 4, 3, 5)), {"scale": 0.5, "softcap": 2.0}),
        Sample(at, (q, k, v, hidden)),
        Sample(at, (q, k, v), {"causal": True, "offset": dims_attribute([2])}),
        Sample(at, (q, k, v, real(5)), {"causal": True}),
        Sample(at, (q, k, v, hidden), {"nan_unseen": True}),
        *_strided_attention(),
        Sample(ro, (real(2, 4, 3, 8), *angles)),
        Sample(ro, (real(2, 4, 3, 4), *angles), {"interleaved": True}),
    ]


def _strided_attention() -> list[Sample]:
    """Two query heads and one key head of four numbers beside each other in rows of sixteen."""
    at, x, hidden = strided_attention.StridedAttentionOp, real(2, 5, 16), np.ones((5, 5), bool)
    hidden[2] = False
    views = {
        "extents": dims_attribute([2, 2, 1, 5, 5, 4, 4]),
        "q_view": dims_attribute([0, 80, 4, 16]),
        "k_view": dims_attribute([8, 80, 4, 16]),
        "v_view": dims_attribute([12, 80, 4, 16]),
        "scale": 0.5,
    }
    return [
        Sample(at, (x, x, x), views),
        Sample(at, (x, x, x), {**views, "rows_first": True, "causal": True}),
        Sample(at, (x, x, x, hidden), {**views, "rows_first": True}),
        Sample(at, (x, x, x, hidden), {**views, "nan_unseen": True}),
        Sample(at, (x, x, x, real(2, 2, 1, 5)), {**views, "softcap": 1.5}),
    ]


def _recurrent() -> list[Sample]:
    def layer(cls: Any, gates: int, count: int, **more: Any) -> Sample:
        hidden, properties = 3, dict(more)
        given = properties.pop("given", ())
        every = {
            "bias": real(count, 2 * gates * hidden),
            "lengths": np.array([2, 4], np.int32),
            "h0": real(count, 2, hidden),
            "c0": real(count, 2, hidden),
            "peephole": real(count, 3 * hidden),
        }
        names = ["bias", "lengths", "h0"] + (["c0", "peephole"] if gates == 4 else [])
        x = (real(4, 2, 5), real(count, gates * hidden, 5), real(count, gates * hidden, hidden))
        optional = [every[n] if n in given else None for n in names]
        return Sample(cls, (*x, *optional), {"hidden": hidden, **properties})

    lstm, gru, rnn = recurrent.LstmOp, recurrent.GruOp, recurrent.RnnOp
    everything = ("bias", "lengths", "h0", "c0", "peephole")
    return [
        layer(lstm, 4, 1),
        layer(lstm, 4, 2, direction="bidirectional", given=everything, clip=0.7),
        layer(lstm, 4, 1, direction="reverse", given=("bias",), input_forget=True),
        layer(gru, 3, 1, given=("bias", "h0")),
        layer(gru, 3, 2, direction="bidirectional", linear_before_reset=True,
              given=("bias", "lengths")),
        layer(rnn, 1, 1, activations=["LeakyRelu"], alphas=[0.3], given=("bias",)),
        layer(rnn, 1, 2, direction="bidirectional", activations=["Softsign", "HardSigmoid"]),
    ]  # fmt: skip


def _quant() -> list[Sample]:
    q, d = quant.QuantizeLinearOp, quant.DequantizeLinearOp
    x = real(3, 6) * 40
    one, row = np.float32(0.5).reshape(()), np.array([0.5, 2, 0.25], np.float32)
    bytes_ = whole(0, 255, 3, 6, dtype=np.uint8)
    blocks = np.abs(real(3, 2)) + 0.1
    u8, s8 = whole(0, 255, 2, 3, dtype=np.uint8), whole(-9, 9, 3, 4, dtype=np.int8)
    return [
        Sample(q, (x, one, np.uint8(7).reshape(())), {"to": ui8}),
        Sample(q, (x, row), {"to": i8, "axis": 0}),
        Sample(q, (x, blocks, whole(-3, 3, 3, 2, dtype=ml_dtypes.int4)),
               {"to": i4, "axis": 1, "block_size": 4}),
        Sample(q, (x * 40, one), {"to": f8e4m3fn}),
        Sample(q, (x / 10, one), {"to": f4e2m1fn}),
        Sample(q, (real(3, 6, dtype=np.float16), np.float16(0.1).reshape(())), {"to": i8}),
        Sample(d, (bytes_, one, np.uint8(128).reshape(()))),
        Sample(d, (bytes_, row, np.array([1, 2, 3], np.uint8)), {"axis": 0}),
        Sample(d, (bytes_, blocks), {"axis": 1, "block_size": 3}),
        Sample(d, (real(3, 6).astype(ml_dtypes.float8_e5m2), one), {"to": f16}),
        Sample(d, (real(3, 6).astype(ml_dtypes.float4_e2m1fn), one), {"to": bf16}),
        Sample(quant.DynamicQuantizeLinearOp, (x,)),
        Sample(quant.DynamicQuantizeLinearOp, (np.zeros((2, 2), np.float32),)),
        Sample(quant.MatMulIntegerOp, (u8, s8, np.array([3, 4], np.uint8), None)),
        Sample(quant.MatMulIntegerOp,
               (u8, s8, np.uint8(9).reshape(()), np.arange(4, dtype=np.int8))),
        Sample(quant.ConvIntegerOp,
               (whole(0, 255, 1, 2, 5, 5, dtype=np.uint8), whole(-9, 9, 3, 2, 2, 2, dtype=np.int8),
                np.uint8(3).reshape(()), np.array([1, 0, 2], np.int8)), {"pads": [1, 1, 0, 0]}),
    ]  # fmt: skip


def _sample() -> list[Sample]:
    rs = resize.ResizeOp
    image = real(1, 2, 4, 5)

    def resized(mode: str, coordinates: str, output: list[int], **more: Any) -> Sample:
        values = {"mode": mode, "coordinates": coordinates, "output": dims_attribute(output)}
        given = (more.pop("factors", None), more.pop("region", None))
        return Sample(rs, (image, *given), {**values, **more})

    up, down = [1, 2, 7, 9], [1, 2, 3, 2]
    grid = RNG.uniform(-1.4, 1.4, (2, 3, 4, 2)).astype(np.float32)
    plane = real(2, 3, 4, 5)
    rows = [
        resized("linear", "half_pixel", up),
        resized("linear", "align_corners", down),
        resized("cubic", "asymmetric", up, cubic_a=-0.5),
        resized("cubic", "half_pixel", down, exclude_outside=True),
        resized("linear", "half_pixel", down, antialias=True),
        resized("cubic", "half_pixel", down, antialias=True, exclude_outside=True),
        resized("nearest", "half_pixel", up, nearest="round_prefer_ceil"),
        resized("nearest", "asymmetric", down, nearest="floor"),
        resized("linear", "pytorch_half_pixel", [1, 2, 1, 9]),
        resized("linear", "half_pixel_symmetric", [1, 2, 6, 4], scales=[1.0, 1.0, 1.6, 0.9]),
        resized("linear", "half_pixel", down, factors=np.array([1, 1, 0.8, 0.5])),
        resized("linear", "half_pixel", down, factors=np.array([1, 1, 0.8, 0.5]), antialias=True),
        resized("nearest", "tf_crop_and_resize", [1, 2, 3, 4], extrapolation=7.0,
                region=np.array([0.0, 0.0, 0.4, 0.6, 1.0, 1.0, 1.2, 1.7])),
        resized("linear", "tf_crop_and_resize", [1, 2, 3, 4], extrapolation=7.0,
                roi=[0.0, 0.0, 0.4, 0.6, 1.0, 1.0, 1.2, 1.7]),
    ]  # fmt: skip
    for mode in sampling.MODES:
        for padding in sampling.PADDINGS:
            for corners in (False, True):
                values = {"mode": mode, "padding": padding, "align_corners": corners}
                rows.append(Sample(sampling.GridSampleOp, (plane, grid), values, 1e-4))
    rows.append(
        Sample(
            sampling.DeformConvOp,
            (real(2, 4, 5, 6), real(6, 2, 3, 3), real(2, 36, 3, 6), real(6), real(2, 18, 3, 6)),
            {"groups": 2, "offset_groups": 2, "strides": [2, 1], "pads": [1, 1, 1, 1]},
        )
    )
    rois = np.array([[0.5, 0.5, 3, 2.5], [-3, -2, 6, 4], [1, 1, 1, 1]], np.float32)
    for mode, sample, half in (("avg", 2, True), ("avg", 0, False), ("max", 0, True)):
        values = {"mode": mode, "sampling": sample, "half_pixel": half}
        more = {"height": 2, "width": 3, "spatial_scale": 0.9}
        operands = (plane, rois, np.array([0, 1, 1]))
        rows.append(Sample(roi.RoiAlignOp, operands, {**values, **more}))
    return rows


def _signal() -> list[Sample]:
    def dft(x: Any, length: int, **more: Any) -> Sample:
        return Sample(signal.DftOp, (x,), {"axis": 1, "length": dims_attribute([length]), **more})

    return [
        dft(real(2, 6, 1), 6),
        dft(real(2, 6, 2), 6, inverse=True),
        dft(real(2, 6, 1), 9, onesided=True),
        dft(real(2, 6, 2), 4),
        dft(real(2, 5, 2), 8, inverse=True, onesided=True),
        dft(real(2, 5, 2), 7, inverse=True, onesided=True),
        Sample(determinant.DeterminantOp, (real(2, 4, 4),)),
        Sample(bits.BitcastOp, (real(3),), {"to": i32}),
        Sample(bits.BitcastOp, (np.array([True, False]),), {"to": ui8}),
    ]


def _random() -> list[Sample]:
    def words(start: int, key: int, *dims: int, skip: int = 0, word: int = 0) -> Sample:
        state = np.array([key, start], np.uint64)
        places = {"skip": dims_attribute([skip]), "target": dims_attribute(dims)}
        return Sample(random.PhiloxOp, (state,), {**places, "word": word})

    def twisted(count: int, room: int, used: int) -> Sample:
        state = RNG.integers(0, 2**32, random.MT_STATE, dtype=np.uint32)
        state[random.MT_WORDS] = used
        target = {"target": dims_attribute([room])}
        return Sample(random.Mt19937Op, (state, np.int64(count)), target)

    steps = np.array([3, 0, 7, 2, 1, 0], np.int64)
    twister = RNG.integers(0, 2**32, random.MT_STATE, dtype=np.uint32)
    twister[random.MT_WORDS :] = 600, 0, 0, 0
    states = (np.array([3, 2**64 - 5], np.uint64), twister)
    rates = np.array([[0.0, 0.5, 9.99, 10.0, 25.0], [1e3, 1e9, 3.0, 3.0, -1.0]])
    trials = np.array([[0.0, 5.0, 1e6, 40.0, 40.0], [200.0, 7.0, 7.0, 1e9, 100.0]])
    chances = np.array([[0.5, 0.5, 1e-6, 0.9, 0.1], [0.3, 0.0, 1.0, 0.7, 0.05]])
    shapes = np.array([[0.0, 0.01, 0.3, 0.999, 1.0], [1.5, 40.0, 1e9, -2.0, np.nan]])
    keeping = twister.copy()  # a normal number (1.5) for the next draw
    keeping[random.MT_WORDS + 1 :] = 1, 0x3FF80000, 0
    u, v = (RNG.integers(0, 2**24, 500).astype(np.float32) * np.float32(2**-24) for _ in "uv")
    ends = np.array([0, 2**-24, 1 - 2**-24, 0.5, 0.25, 0.125], np.float32)
    return [
        words(0, 0, 5),
        words(2**32 - 3, 2**64 - 1, 3, 4, skip=1, word=1),
        words(2**64 - 2, 0x0123456789ABCDEF, 7, word=2),
        words(5, 2**63, 2, 3, 5, skip=2**40, word=3),
        words(1, 1, 4, 0),
        twisted(9, 9, 624),
        twisted(700, 702, 600),
        twisted(0, 3, 623),
        twisted(1300, 1290, 0),
        Sample(box_muller.BoxMullerOp, (u, v)),
        Sample(box_muller.BoxMullerOp, (u, v), {"sine": True}),
        Sample(box_muller.BoxMullerOp, (ends, ends[::-1].copy())),
        Sample(box_muller.BoxMullerOp, (ends, ends[::-1].copy()), {"sine": True}),
        *(Sample(rejection.PoissonOp, (state, rates)) for state in states),
        *(
            Sample(rejection.BinomialOp, (state, trials.astype(kind), chances.astype(kind)))
            for state in states
            for kind in (np.float64, np.float32)
        ),
        *(
            Sample(rejection.StandardGammaOp, (state, shapes.astype(kind)))
            for state in (*states, keeping)
            for kind in (np.float64, np.float32)
        ),
        Sample(random.WithinOp, (np.abs(real(3, 5)),), {"low": 0.0, "high": 9.0}),
        Sample(random.WithinOp, (steps,), {"low": 0.0, "high": 7.0}),
        Sample(random.ShuffleOp, (steps,)),
        Sample(random.ShuffleOp, (steps[:0],)),
    ]


SAMPLES = _make()
