"""Operations on strings: computed by host functions, on numpy arrays of `object`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
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


MARKS = "\x02", "\x03"
"""What onnxruntime's Tokenizer puts before and behind the tokens of a string."""


@op
class TokenizeOp(DataDependent):
    """The tokens of each string along a new last axis (onnxruntime's `Tokenizer`).

    Tokens are the leftmost longest matches of `expression`, or what is between matches of the
    `separators`, each applied to the pieces that the one before left; one empty separator gives
    single characters.
    Those of fewer than `shortest` characters are dropped. Rows are filled with `pad`; where
    `marked` is set and there is any token at all, each row's tokens stand between two marks. The
    extent of the new axis is the symbol `count`. Word characters are those of ASCII.

    C1: the operand is of strings. C2: `expression` or `separators` are regular expressions.

    %r = torsh.tokenize %x {count = "n", expression = "[a-z]+", pad = "#", shortest = 1 : i64} : (tensor<2x!torsh.str>) -> tensor<2x?x!torsh.str, #torsh.dims<[2, n]>>
    """  # noqa: E501

    name = "torsh.tokenize"
    x = operand_def()
    expression = opt_prop_def(StringAttr)
    separators = opt_prop_def(ArrayAttr[StringAttr])
    pad = prop_def(StringAttr)
    shortest = prop_def(IntegerAttr[I64])
    marked = opt_prop_def(BoolAttr)
    count = prop_def(StringAttr)
    y = result_def()

    def infer(self) -> Sequence[AnyTensor]:
        require_element("x (C1)", self.x, string)
        if (self.expression is None) == (self.separators is None):
            raise ShapeError("either `expression` or `separators` is needed (C2)")
        self._patterns()
        return (tensor(string, (*dims_of(self.x), symbol(str_of(self.count)))),)

    def evaluate(self, *args: Any) -> Sequence[Any]:
        x, patterns, least = args[0], self._patterns(), self.shortest.value.data
        rows = [
            [token for token in self._tokens(text, patterns) if len(token) >= least]
            for text in x.reshape(-1)
        ]
        if bool_of(self.marked) and any(rows):
            rows = [[MARKS[0], *row, MARKS[1]] for row in rows]
        width = max(map(len, rows), default=0)
        flat = [token for row in rows for token in [*row, *[self.pad.data] * (width - len(row))]]
        return (strings(flat, (*x.shape, width)),)

    def _tokens(self, text: str, patterns: Sequence[re.Pattern[str]]) -> list[str]:
        if self.expression is not None:
            return [text[start:end] for start, end in _longest(patterns[0], text)]
        if [pattern.pattern for pattern in patterns] == [""]:
            return list(text)
        pieces = [text]
        for pattern in patterns:
            pieces = [part for piece in pieces for part in _between(pattern, piece)]
        return pieces

    def _patterns(self) -> list[re.Pattern[str]]:
        given = (self.expression,) if self.separators is None else self.separators.data
        texts = [text.data for text in given if text is not None]
        try:
            return [re.compile(text, re.ASCII) for text in texts]
        except (re.error, ValueError) as error:
            raise ShapeError(f"{texts} are no patterns: {error} (C2)") from error


def _longest(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    """Where the leftmost and there longest matches are, as POSIX defines them; none is empty.

    Python's own are the first that backtracking finds; longer ones are asked for until none is.
    """
    only_one = not set("|?*{(") & set(pattern.pattern)
    place = 0
    while found := pattern.search(text, place):
        start, end = found.span()
        longer = None if only_one else _reaching(pattern.pattern, len(text) - end - 1)
        while longer is not None and (found := longer.match(text, start)):
            end = found.end()
            longer = _reaching(pattern.pattern, len(text) - end - 1)
        if end > start:
            yield start, end
        place = end if end > start else end + 1
        if place > len(text):
            return


@lru_cache(maxsize=1024)
def _reaching(pattern: str, rest: int) -> re.Pattern[str] | None:
    """Matches that leave at most `rest` characters of the text."""
    if rest < 0:
        return None
    return re.compile(rf"(?:{pattern})(?=[\s\S]{{0,{rest}}}\Z)", re.ASCII)


def _between(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    """What is between matches; empty parts are dropped."""
    place = 0
    for start, end in _longest(pattern, text):
        if start > place:
            yield text[place:start]
        place = end
    if place < len(text):
        yield text[place:]


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
    """Strings without those that are stop words, in another case.

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
        kept = [self._cased(text) for text in args[0].reshape(-1) if not self._stops(text)] or [""]
        return (strings(kept, (*args[0].shape[:-1], len(kept))),)

    def _cased(self, text: str) -> str:
        changed = {"LOWER": text.lower(), "UPPER": text.upper()}
        return changed.get(self.case.data, text)

    def _stops(self, text: str) -> bool:
        words = strs_of(self.stopwords)
        if bool_of(self.case_sensitive):
            return text in words
        return text.lower() in [word.lower() for word in words]


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
        require_element("x (C1)", self.x, element_listed(self.keys))
        return (tensor(element_listed(self.values), dims_of(self.x)),)

    def evaluate(self, *args: Any) -> Sequence[Any]:
        values = listed(self.values)
        table = dict(zip(listed(self.keys), values, strict=False))
        found = [table.get(key, values[-1]) for key in args[0].reshape(-1).tolist()]
        if element_listed(self.values) == string:
            return (strings(found, args[0].shape),)
        assert isinstance(self.values, LiteralAttr)
        dtype = dtype_named(self.values.data.dtype).numpy
        return (np.asarray(found).astype(dtype).reshape(args[0].shape),)


def element_listed(attribute: Attribute) -> Attribute:
    """The element type of a literal, or of a list of strings."""
    if isinstance(attribute, LiteralAttr):
        return dtype_named(attribute.data.dtype).element
    return string


def listed(attribute: Attribute) -> list[Any]:
    """The values of a literal, or of a list of strings."""
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
        wanted = element_listed(self.pool)
        if rank_of(self.x) not in (1, 2) or element_type(self.x) != wanted:
            raise ShapeError(f"x is {self.x.type}, expected a vector or matrix of {wanted} (C1)")
        return (tensor(f32, (*dims_of(self.x)[:-1], self._width())),)

    def _grams(self) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """The number of each n-gram and its elements."""
        pool, starts, number = listed(self.pool), ints_of(self.starts), 0
        for size, (first, end) in enumerate(zip(starts, [*starts[1:], len(pool)], strict=True), 1):
            for place in range(first, end, size):
                yield number, tuple(pool[place : place + size])
                number += 1

    def evaluate(self, *args: Any) -> Sequence[Any]:
        x, width = args[0], self._width()
        rows = np.atleast_2d(x)
        y = np.zeros((len(rows), width), np.float32)
        places, grams = ints_of(self.places), dict[tuple[Any, ...], list[int]]()
        for number, gram in self._grams():
            grams.setdefault(gram, []).append(number)
        weights = floats_of(self.weights) if self.weights is not None else None
        for row, elements in zip(y, rows.tolist(), strict=True):
            for gram, count in self._seen(elements).items():
                times = 1 if self.mode.data == "IDF" else count
                for number in grams.get(gram, ()):
                    weight = 1.0 if weights is None or self.mode.data == "TF" else weights[number]
                    row[places[number]] += times * weight
        return (y.reshape(*x.shape[:-1], width),)

    def _seen(self, elements: list[Any]) -> Counter[tuple[Any, ...]]:
        seen: Counter[tuple[Any, ...]] = Counter()
        for size in range(self.shortest.value.data, self.longest.value.data + 1):
            for step in range(1, 2 if size == 1 else self.skips.value.data + 2):
                for first in range(len(elements) - step * (size - 1)):
                    seen[tuple(elements[first : first + step * size : step][:size])] += 1
        return seen
