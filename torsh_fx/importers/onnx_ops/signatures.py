"""The form of operators that onnx has no schema of: those that onnxruntime adds.

Source: onnxruntime's docs/ContribOperators.md. Of attributes that the converters here do not
honour only the value that changes nothing is taken (`fixed`); any other is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torsh_fx.importers.onnx_ops.node import MS
from torsh_fx.importers.onnx_signature import MANY, Signature


def _form(
    inputs: tuple[int, int],
    outputs: tuple[int, int] = (1, 1),
    *,
    ints: Iterable[str] = (),
    floats: Iterable[str] = (),
    lists: Iterable[str] = (),
    texts: Iterable[str] = (),
    reals: Iterable[str] = (),
    words: Iterable[str] = (),
    needed: Iterable[str] = (),
    fixed: Mapping[str, int | str] | None = None,
) -> Signature:
    """A signature; attributes by kind: `lists` of integers, `reals` of floats, `words` of texts."""
    fixed = fixed or {}
    ints = (*ints, *(name for name, value in fixed.items() if isinstance(value, int)))
    texts = (*texts, *(name for name, value in fixed.items() if isinstance(value, str)))
    # The keys are values of AttributeProto.AttributeType.
    kinds = {1: floats, 2: ints, 3: texts, 6: reals, 7: lists, 8: words}
    attributes = {name: kind for kind, names in kinds.items() for name in names}
    return Signature(inputs, outputs, attributes, frozenset(needed), fixed=fixed)


_WINDOW = ("dilations", "kernel_shape", "pads", "strides")
_PRODUCT = ("transA", "transB")
_SCALED = ("axis", "block_size", "output_dtype", "saturate")
_SIMPLE = _form((2, 2), (1, 2), ints=("axis", "stash_type"), floats=("epsilon",))

_CONTRIB: Mapping[str, Signature] = {
    "CDist": _form((2, 2), texts=("metric",)),
    "CropAndResize": _form((4, 4), texts=("mode",), floats=("extrapolation_value",)),
    "ExpandDims": _form((2, 2)),
    "GatherBlockQuantized": _form(
        (3, 4), ints=("bits", "block_size", "gather_axis", "quantize_axis")
    ),
    "GatherND": _form((2, 2)),
    "GridSample": _form((2, 2), ints=("align_corners",), texts=("mode", "padding_mode")),
    "Inverse": _form((1, 1)),
    "MoE": _form(
        (5, 8), texts=("activation_type",), ints=("k", "normalize_routing_weights",
        "swiglu_fusion"), floats=("activation_alpha", "activation_beta", "swiglu_limit"),
        fixed={"swiglu_limit_after_activation": 0, "use_sparse_mixer": 0},
    ),
    "NGramRepeatBlock": _form((2, 2), ints=("ngram_size",), needed=("ngram_size",)),
    "MatMulBnb4": _form(
        (3, 3), ints=("K", "N", "block_size", "quant_type"), fixed={"training_mode": 0,
        "transB": 1}, needed=("K", "N", "block_size", "quant_type"),
    ),
    "NhwcMaxPool": _form(
        (1, 1), lists=_WINDOW, texts=("auto_pad",), ints=("ceil_mode",), needed=("kernel_shape",)
    ),
    "Pad": _form((2, 3), texts=("mode",)),
    "QLinearConv": _form(
        (8, 9), lists=_WINDOW, texts=("auto_pad",), ints=("channels_last", "group")
    ),
    "QLinearWhere": _form((9, 9)),
    "Trilu": _form((1, 2), ints=("upper",)),
    "Unique": _form((1, 1), (3, 3)),
    "Attention": _form(
        (2, 7), (1, 2), ints=("num_heads", "unidirectional"), lists=("qkv_hidden_sizes",),
        floats=("mask_filter_value", "scale"), needed=("num_heads",),
        fixed={"do_rotary": 0, "past_present_share_buffer": 0},
    ),
    "BiasGelu": _form((2, 2)),
    "DequantizeLinear": _form((2, 3), ints=_SCALED),
    "DynamicQuantizeMatMul": _form((3, 5)),
    "EmbedLayerNormalization": _form(
        (7, 9), (1, 3), ints=("mask_index_type",), floats=("epsilon",)
    ),
    "FastGelu": _form((1, 2)),
    "FusedConv": _form(
        (2, 4), lists=_WINDOW, texts=("activation", "auto_pad"), reals=("activation_params",),
        ints=("group",),
    ),
    "FusedGemm": _form(
        (2, 3), ints=_PRODUCT, texts=("activation",),
        floats=("activation_alpha", "activation_beta", "activation_gamma", "alpha", "beta"),
    ),
    "FusedMatMul": _form(
        (2, 2), ints=(*_PRODUCT, "transBatchA", "transBatchB"), floats=("alpha",)
    ),
    "Gelu": _form((1, 1)),
    "GroupQueryAttention": _form(
        (7, 17), (1, 4), floats=("scale", "softcap"), needed=("kv_num_heads", "num_heads"),
        ints=("do_rotary", "kv_num_heads", "local_window_size", "num_heads", "rotary_interleaved",
              "smooth_softmax"),
        fixed={"causal": 1, "k_quant_type": "NONE", "kv_cache_bit_width": 0, "qk_output": 0,
               "sliding_window_cache": 0, "v_quant_type": "NONE"},
    ),
    "MatMulIntegerToFloat": _form((4, 7)),
    "MatMulNBits": _form(
        (3, 6), ints=("K", "N", "accuracy_level", "bits", "block_size"),
        needed=("K", "N", "block_size"), fixed={"weight_prepacked": 0},
    ),
    "MultiHeadAttention": _form(
        (1, 10), (1, 4), ints=("num_heads", "unidirectional"),
        floats=("mask_filter_value", "scale"), needed=("num_heads",),
    ),
    "QGemm": _form((6, 9), ints=_PRODUCT, floats=("alpha",)),
    "QLinearAdd": _form((7, 8)),
    "QLinearAveragePool": _form(
        (4, 5), lists=_WINDOW, texts=("auto_pad",), needed=("kernel_shape",),
        ints=("ceil_mode", "channels_last", "count_include_pad"),
    ),
    "QLinearConcat": _form((3, MANY), ints=("axis",), needed=("axis",)),
    "QLinearGlobalAveragePool": _form((5, 5), ints=("channels_last",)),
    "QLinearLeakyRelu": _form((4, 5), floats=("alpha",)),
    "QLinearMul": _form((7, 8)),
    "QLinearSigmoid": _form((4, 5)),
    "QLinearSoftmax": _form((5, 5), ints=("axis", "opset"), needed=("opset",)),
    "QuantizeLinear": _form((2, 3), ints=_SCALED),
    "QuickGelu": _form((1, 1), floats=("alpha",)),
    "RotaryEmbedding": _form(
        (4, 4), floats=("scale",), fixed={"is_packed_batching": 0},
        ints=("interleaved", "num_heads", "rotary_embedding_dim"),
    ),
    "SimplifiedLayerNormalization": _SIMPLE,
    "SkipLayerNormalization": _form((3, 5), (1, 4), floats=("epsilon",)),
    "SkipSimplifiedLayerNormalization": _form((3, 4), (1, 4), floats=("epsilon",)),
    "Tokenizer": _form(
        (1, 1), ints=("mark", "mincharnum"), texts=("pad_value", "tokenexp"),
        words=("separators",), needed=("mincharnum", "pad_value"),
    ),
    "TransposeMatMul": _form((2, 2), ints=_PRODUCT, floats=("alpha",)),
}  # fmt: skip

SIGNATURES: Mapping[tuple[str, str], Signature] = {
    **{(MS, name): form for name, form in _CONTRIB.items()},
    ("", "SimplifiedLayerNormalization"): _SIMPLE,
}
"""By domain and operator."""
