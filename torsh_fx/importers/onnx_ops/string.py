"""Strings, and counts of n-grams."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, StringAttr
from xdsl.ir import Attribute, SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import Array
from torsh_dialect.dims import maximum
from torsh_dialect.dtypes import f32
from torsh_dialect.ops.reduce import AllOp
from torsh_dialect.ops.string import (
    RegexFullMatchOp,
    StringConcatOp,
    StringNormalizerOp,
    StringSplitOp,
    TfIdfOp,
    TokenizeOp,
)
from torsh_dialect.types import dims_of, rank_of
from torsh_fx.importers.onnx_ops.node import MS, Node, NotSupported, converter


@converter("StringConcat")
def concat(n: Node) -> SSAValue:
    return n(StringConcatOp, n.input(0), n.input(1))


@converter("StringSplit")
def split(n: Node) -> Sequence[SSAValue]:
    most = n.int("maxsplit") if n.has("maxsplit") else None
    delimiter = n.str("delimiter", "")
    return n.all(StringSplitOp, n.input(0), delimiter=delimiter, most=most, count=n.fresh("u"))


@converter("RegexFullMatch")
def regex_full_match(n: Node) -> SSAValue:
    return n(RegexFullMatchOp, n.input(0), pattern=n.str("pattern"))


@converter("StringNormalizer")
def normalizer(n: Node) -> SSAValue:
    return n(
        StringNormalizerOp, n.input(0), case=n.str("case_change_action", "NONE"),
        case_sensitive=bool(n.int("is_case_sensitive", 0)) or None,
        stopwords=string_array(n.strs("stopwords", [])), count=n.fresh("u"),
    )  # fmt: skip


@converter("Tokenizer", domain=MS)
def tokenizer(n: Node) -> SSAValue:
    """Source: onnxruntime's ContribOperators.md; skl2onnx writes it for text vectorizers."""
    if n.has("tokenexp") == n.has("separators"):
        raise NotSupported("one of tokenexp and separators is needed")
    expression = n.str("tokenexp") if n.has("tokenexp") else None
    separators = n.strs("separators") if n.has("separators") else None
    given = [expression] if separators is None else separators
    if any("[:" in (text or "") for text in given):
        raise NotSupported(f"character classes [:name:] in {given}", "spell their characters")
    if separators is not None and separators != [""] and any(_may_be_empty(s) for s in separators):
        raise NotSupported(f"separators that match nothing: {separators}", "let them match text")
    shortest = n.int("mincharnum")
    if shortest < 1 or (separators == [""] and shortest > 1):
        raise NotSupported(f"mincharnum is {shortest}", "repair the model")
    return n(
        TokenizeOp, n.input(0), expression=expression, separators=separators,
        pad=n.str("pad_value"), shortest=shortest, marked=bool(n.int("mark", 0)) or None,
        count=n.fresh("u"),
    )  # fmt: skip


def _may_be_empty(pattern: str) -> bool:
    try:
        return re.fullmatch(pattern, "") is not None
    except re.error:
        return False  # `TokenizeOp` says what is wrong with it


def string_array(values: Sequence[str]) -> Attribute:
    """Strings as an attribute."""
    return ArrayAttr([StringAttr(v) for v in values])


@converter("TfIdfVectorizer")
def tf_idf(n: Node) -> SSAValue:
    x = n.input(0)
    if not n.has("pool_strings"):
        return _counted_grams(n, n.c.cast(x, dtypes.i64))
    pool = string_array(n.strs("pool_strings"))
    return n(
        TfIdfOp, x, pool=pool, starts=n.ints("ngram_counts"), places=n.ints("ngram_indexes"),
        shortest=n.int("min_gram_length"), longest=n.int("max_gram_length"),
        skips=n.int("max_skip_count"), mode=n.str("mode"),
        weights=n.floats("weights") if n.has("weights") else None,
    )  # fmt: skip


def _counted_grams(n: Node, x: SSAValue) -> SSAValue:
    """N-grams of numbers: windows of every size and distance compared with those of the pool."""
    c, mode, places = n.c, n.str("mode"), n.ints("ngram_indexes")
    pool, starts = n.ints("pool_int64s"), n.ints("ngram_counts")
    flat = rank_of(x) == 1
    x = c.reshape(x, (1, *dims_of(x))) if flat else x
    pieces: list[SSAValue] = []
    for size, (first, end) in enumerate(zip(starts, [*starts[1:], len(pool)], strict=True), 1):
        grams = np.asarray(pool[first:end]).reshape(-1, size)
        if not len(grams):
            continue
        total = c.broadcast(n.constant(np.float32(0)), (dims_of(x)[0], len(grams)))
        counted = n.int("min_gram_length") <= size <= n.int("max_gram_length")
        for step in range(1, 2 if size == 1 else n.int("max_skip_count") + 2):
            if counted:
                total = c.add(total, _occurrences(n, x, grams, step))
        pieces.append(total)
    counts = c.concat(pieces, 1)
    if mode == "IDF":
        counts = c.cast(c.gt(counts, 0.0), f32)
    weights = n.floats("weights", [1.0] * len(places)) if mode != "TF" else [1.0] * len(places)
    spread = np.zeros((len(places), max(places) + 1), np.float32)
    spread[np.arange(len(places)), places] = weights
    y = c.matmul(counts, n.constant(spread))
    return c.reshape(y, dims_of(y)[1:]) if flat else y


def _occurrences(n: Node, x: SSAValue, grams: Array, step: int) -> SSAValue:
    """How often each n-gram [grams, size] occurs in each row, its elements `step` apart."""
    c, (count, size), (rows, length) = n.c, grams.shape, dims_of(x)
    windows = maximum(length - step * (size - 1), 0)
    first = c.reshape(c.iota(windows), (windows, 1))
    index = c.add(first, n.constant(np.arange(size) * step))
    parts = c.reshape(c.take(x, index, 1), (rows, 1, windows, size))
    hits = n(AllOp, c.eq(parts, n.constant(grams.reshape(count, 1, size))), axes=[3])
    return c.sum(c.cast(hits, f32), [2])
