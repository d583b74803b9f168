"""Strings, and the operators of ai.onnx.ml."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, StringAttr
from xdsl.ir import Attribute, SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import literal
from torsh_dialect.ops.string import (
    RegexFullMatchOp,
    StringConcatOp,
    StringNormalizerOp,
    StringSplitOp,
    TfIdfOp,
)
from torsh_fx.importers.onnx_ops.node import Node, converter


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


def string_array(values: Sequence[str]) -> Attribute:
    """Strings as an attribute."""
    return ArrayAttr([StringAttr(v) for v in values])


@converter("TfIdfVectorizer")
def tf_idf(n: Node) -> SSAValue:
    x = n.input(0)
    if n.has("pool_strings"):
        pool = string_array(n.strs("pool_strings"))
    else:
        pool, x = literal(np.asarray(n.ints("pool_int64s"))), n.c.cast(x, dtypes.i64)
    return n(
        TfIdfOp, x, pool=pool, starts=n.ints("ngram_counts"), places=n.ints("ngram_indexes"),
        shortest=n.int("min_gram_length"), longest=n.int("max_gram_length"),
        skips=n.int("max_skip_count"), mode=n.str("mode"),
        weights=n.floats("weights") if n.has("weights") else None,
    )  # fmt: skip
