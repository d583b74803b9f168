"""Operations on strings: computed by host functions, on numpy arrays of `object`."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import I64, ArrayAttr, BoolAttr, DenseArrayBase, IntegerAttr, StringAttr
from xdsl.ir import Attribute
from xdsl.irdl import operand_def, opt_prop_def, prop_def, result_def

from torsh_dialect.attributes import (
    LiteralAttr,
    bool_of,
    extents_of,
    floats_of,
    ints_of,
    str_of,
    strs_of,
)
from torsh_dialect.declare import op
from torsh_dialect.dims import broadcast_shapes, symbol
from torsh_dialect.dtypes import dtype_named, f32, i1, i64, string
from torsh_dialect.errors import ShapeError
from torsh_dialect.kinds import DataDependent, TensorOp
from torsh_dialect.ops.reference import require_element, require_equal
from torsh_dialect.types import AnyTensor, dims_of, element_type, rank_of, tensor


def strings(values: Sequence[str], shape: Sequence[int]) -> Any:
    """An array of strings."""
    array = np.empty(len(values), object)
    array[:] = list(values)
    return array.reshape(shape)


@op
class StringConstantOp(TensorOp):
    """Strings in row-major order, of extents `target`.

    C1: there are as many strings as elements.

    %r = torsh.string_constant {target = #torsh.dims<[2]>, values = ["a", "b"]} : () -> tensor<2x!torsh.str>
    """  # noqa: E501

    name = "torsh.string_constant"
    values = prop_def(ArrayAttr[StringAttr])
    target = prop_def(Attribute)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        return (tensor(string, extents_of(self.target)),)

    def evaluate(self, *args: Any) -> Sequence[Any]:
        shape = [int(str(d)) for d in extents_of(self.target)]
        return (strings(strs_of(self.values), shape),)


@op
class StringConcatOp(TensorOp):
    """Strings of a followed by those of b, under broadcasting.

    C1: both operands are strings.

    %r = torsh.string_concat %a, %b : (tensor<2x!torsh.str>, tensor<2x!torsh.str>) -> tensor<2x!torsh.str>
    """  # noqa: E501

    name = "torsh.string_concat"
    a = operand_def()
    b = operand_def()
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        for what, value in (("a (C1)", self.a), ("b (C1)", self.b)):
            require_element(what, value, string)
        return (tensor(string, broadcast_shapes(dims_of(self.a), dims_of(self.b))),)

    def evaluate(self, *args: Any) -> Sequence[Any]:
        a, b = np.broadcast_arrays(*args)
        pairs = zip(a.reshape(-1), b.reshape(-1), strict=True)
        return (strings([x + y for x, y in pairs], a.shape),)


@op
class StringSplitOp(DataDependent):
    """The pieces of each string along a new last axis, and how many there are.

    Strings are cut at `delimiter` (at runs of white space, if it is empty), at most `most` times;
    shorter rows are filled with empty strings. The extent of the new axis is the symbol `count`.

    C1: the operand is of strings.

    %r, %n = torsh.string_split %x {count = "n", delimiter = ""} : (tensor<2x!torsh.str>) -> (tensor<2x?x!torsh.str, #torsh.dims<[2, n]>>, tensor<2xi64>)
    """  # noqa: E501

    name = "torsh.string_split"
    x = operand_def()
    delimiter = prop_def(StringAttr)
    most = opt_prop_def(IntegerAttr[I64])
    count = prop_def(StringAttr)
    pieces = result_def()
    counts = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        require_element("x (C1)", self.x, string)
        dims = dims_of(self.x)
        return tensor(string, (*dims, symbol(str_of(self.count)))), tensor(i64, dims)

    def evaluate(self, *args: Any) -> Sequence[Any]:
        x = args[0]
        most = -1 if self.most is None else self.most.value.data
        rows = [text.split(self.delimiter.data or None, most) for text in x.reshape(-1)]
        width = max(map(len, rows), default=0)
        flat = [piece for row in rows for piece in [*row, *[""] * (width - len(row))]]
        counts = np.asarray(list(map(len, rows)), np.int64).reshape(x.shape)
        return strings(flat, (*x.shape, width)), counts


@op
class RegexFullMatchOp(TensorOp):
    """Whether a regular expression matches each whole string.

    C1: the operand is of strings. C2: the pattern is a regular expression.

    %r = torsh.regex_full_match %x {pattern = "a+"} : (tensor<2x!torsh.str>) -> tensor<2xi1>
    """

    name = "torsh.regex_full_match"
    x = operand_def()
    pattern = prop_def(StringAttr)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        require_element("x (C1)", self.x, string)
        try:
            re.compile(self.pattern.data)
        except re.error as error:
            raise ShapeError(f"{self.pattern.data!r} is no pattern: {error} (C2)") from error
        return (tensor(i1, dims_of(self.x)),)

    def evaluate(self, *args: Any) -> Sequence[Any]:
        pattern = re.compile(self.pattern.data)
        hits = [pattern.fullmatch(text) is not None for text in args[0].reshape(-1)]
        return (np.asarray(hits, np.bool_).reshape(args[0].shape),)


@op
class StringNormalizerOp(DataDependent):
    """Strings without accents and without those that are stop words, in another case.

    Of a vector, or a matrix of one row; `case` is LOWER, UPPER or NONE. Where everything is
    removed one empty string is left. The number of strings is the symbol `count`.

    C1: x is a vector of strings or a matrix of one row of them.

    %r = torsh.string_normalizer %x {case = "LOWER", count = "n", stopwords = ["a"]} : (tensor<2x!torsh.str>) -> tensor<?x!torsh.str, #torsh.dims<[n]>>
    """  # noqa: E501

    name = "torsh.string_normalizer"
    x = operand_def()
    case = prop_def(StringAttr)
    case_sensitive = opt_prop_def(BoolAttr)
    stopwords = prop_def(ArrayAttr[StringAttr])
    count = prop_def(StringAttr)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        require_element("x (C1)", self.x, string)
        if rank_of(self.x) not in (1, 2):
            raise ShapeError(f"x has rank {rank_of(self.x)}, expected 1 or 2 (C1)")
        if rank_of(self.x) == 2:
            require_equal("rows of x and 1 (C1)", dims_of(self.x)[0], 1)
        return (tensor(string, (*dims_of(self.x)[:-1], symbol(str_of(self.count)))),)

    def evaluate(self, *args: Any) -> Sequence[Any]:
        kept = [self._cased(t) for t in map(_plain, args[0].reshape(-1)) if not self._stops(t)]
        kept = [text for text in kept if text] or [""]
        return (strings(kept, (*args[0].shape[:-1], len(kept))),)

    def _cased(self, text: str) -> str:
        changed = {"LOWER": text.lower(), "UPPER": text.upper()}
        return changed.get(self.case.data, text)

    def _stops(self, text: str) -> bool:
        words = strs_of(self.stopwords)
        if bool_of(self.case_sensitive):
            return text in words
        return text.lower() in [word.lower() for word in words]


def _plain(text: str) -> str:
    """Text without accents."""
    if text.isascii():
        return text
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


@op
class LookupOp(TensorOp):
    """The value at each element's key, or the last value for elements that are no key.

    Keys and values are a literal or strings; there is one value more than keys.

    C1: x has the keys' element type.

    %r = torsh.lookup %x {keys = ["a"], values = #torsh.literal<"i64", [2], [7, -1]>} : (tensor<2x!torsh.str>) -> tensor<2xi64>
    """  # noqa: E501

    name = "torsh.lookup"
    x = operand_def()
    keys = prop_def(Attribute)
    values = prop_def(Attribute)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        require_element("x (C1)", self.x, _element(self.keys))
        return (tensor(_element(self.values), dims_of(self.x)),)

    def evaluate(self, *args: Any) -> Sequence[Any]:
        values = _listed(self.values)
        table = dict(zip(_listed(self.keys), values, strict=False))
        found = [table.get(key, values[-1]) for key in args[0].reshape(-1).tolist()]
        if _element(self.values) == string:
            return (strings(found, args[0].shape),)
        assert isinstance(self.values, LiteralAttr)
        dtype = dtype_named(self.values.data.dtype).numpy
        return (np.asarray(found).astype(dtype).reshape(args[0].shape),)


def _element(attribute: Attribute) -> Attribute:
    if isinstance(attribute, LiteralAttr):
        return dtype_named(attribute.data.dtype).element
    return string


def _listed(attribute: Attribute) -> list[Any]:
    if isinstance(attribute, LiteralAttr):
        return attribute.data.array().reshape(-1).tolist()
    return list(strs_of(attribute))


@op
class TfIdfOp(TensorOp):
    """How often given n-grams occur in each row, counted or weighted (ONNX `TfIdfVectorizer`).

    The pool holds the n-grams of size 1, then 2, ...: those of size k begin at `starts[k - 1]`.
    N-gram i counts at `places[i]` of the result. Elements of an n-gram are s apart for s in 1 to
    `skips` + 1; sizes from `shortest` to `longest` count. `mode` is TF (counts), IDF (the weight if
    it occurs) or TFIDF (count times weight).

    C1: x is a vector or matrix of the pool's element type.

    %r = torsh.tf_idf %x {longest = 1 : i64, mode = "TF", places = array<i64: 0, 1>, pool = #torsh.literal<"i64", [2], [5, 6]>, shortest = 1 : i64, skips = 0 : i64, starts = array<i64: 0>} : (tensor<4xi64>) -> tensor<2xf32>
    """  # noqa: E501

    name = "torsh.tf_idf"
    x = operand_def()
    pool = prop_def(Attribute)
    starts = prop_def(DenseArrayBase[I64])
    places = prop_def(DenseArrayBase[I64])
    shortest = prop_def(IntegerAttr[I64])
    longest = prop_def(IntegerAttr[I64])
    skips = prop_def(IntegerAttr[I64])
    mode = prop_def(StringAttr)
    weights = opt_prop_def(Attribute)
    y = result_def()

    def _width(self) -> int:
        return max(ints_of(self.places)) + 1

    def infer(self) -> Sequence[AnyTensor]:
        wanted = _element(self.pool)
        if rank_of(self.x) not in (1, 2) or element_type(self.x) != wanted:
            raise ShapeError(f"x is {self.x.type}, expected a vector or matrix of {wanted} (C1)")
        return (tensor(f32, (*dims_of(self.x)[:-1], self._width())),)

    def _grams(self) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """The number of each n-gram and its elements."""
        pool, starts, number = _listed(self.pool), ints_of(self.starts), 0
        for size, (first, end) in enumerate(zip(starts, [*starts[1:], len(pool)], strict=True), 1):
            for place in range(first, end, size):
                yield number, tuple(pool[place : place + size])
                number += 1

    def evaluate(self, *args: Any) -> Sequence[Any]:
        rows = args[0].reshape(-1, args[0].shape[-1]) if args[0].ndim == 2 else args[0][None]
        y = np.zeros((len(rows), self._width()), np.float32)
        grams, places = list(self._grams()), ints_of(self.places)
        weights = floats_of(self.weights) if self.weights is not None else None
        for row, elements in zip(y, rows.tolist(), strict=True):
            seen = self._seen(elements)
            for number, gram in grams:
                count = seen[gram]
                if count and self.mode.data == "IDF":
                    count = 1
                weight = 1.0 if weights is None or self.mode.data == "TF" else weights[number]
                row[places[number]] += count * weight
        return (y.reshape(*args[0].shape[:-1], -1),)

    def _seen(self, elements: list[Any]) -> Counter[tuple[Any, ...]]:
        seen: Counter[tuple[Any, ...]] = Counter()
        for size in range(self.shortest.value.data, self.longest.value.data + 1):
            for step in range(1, 2 if size == 1 else self.skips.value.data + 2):
                for first in range(len(elements) - step * (size - 1)):
                    seen[tuple(elements[first : first + step * size : step][:size])] += 1
        return seen
