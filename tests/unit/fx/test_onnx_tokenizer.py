"""Strings of text vectorizers: Tokenizer and StringNormalizer, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import ModelProto, helper

import torsh_fx
from torsh_dialect.errors import UnsupportedError

TEXTS = ["the cat  sat", "Äb c_9", "", "ab abab, aba!", "x"]


def model_of(rank: int = 1, **attributes: Any) -> ModelProto:
    node = helper.make_node("Tokenizer", ["x"], ["y"], domain="com.microsoft", **attributes)
    x = helper.make_tensor_value_info("x", 8, ["n", "c"][:rank])
    y = helper.make_tensor_value_info("y", 8, None)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "g", [x], [y])
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


CASES: list[dict[str, Any]] = [
    {"separators": [" "]},
    {"separators": [" ", "a"]},
    {"separators": ["a", "[ ,]+"]},
    {"separators": ["a|ab"]},
    {"separators": [""]},
    {"tokenexp": "[a-z]+"},
    {"tokenexp": r"\w+"},
    {"tokenexp": r"\b\w\w+\b"},
    {"tokenexp": "a|ab|aba"},
    {"tokenexp": "a?(ab)?"},
    {"tokenexp": "[a-z]+?"},
    {"tokenexp": "[a-z]*"},
    {"tokenexp": "zzz"},
]


@pytest.mark.parametrize("attributes", CASES, ids=str)
@pytest.mark.parametrize("mark", [0, 1])
def test_tokens(attributes: dict[str, Any], mark: int):
    for least in (1,) if attributes.get("separators") == [""] else (1, 2):
        model = model_of(mark=mark, mincharnum=least, pad_value="#", **attributes)
        session = ort.InferenceSession(model.SerializeToString())
        compiled = torsh_fx.compile(model)
        for texts in (TEXTS, ["", ""]):
            x = np.array(texts, object)
            (expected,) = session.run(None, {"x": x})
            (found,) = compiled.run([x])
            assert found.shape == expected.shape
            assert found.tolist() == expected.tolist()


def test_tokens_of_a_matrix():
    model = model_of(2, mark=1, mincharnum=1, pad_value="", separators=[" "])
    x = np.array([["a b", "c"], ["d e f", ""]], object)
    (expected,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    assert torsh_fx.compile(model).run([x])[0].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({}, "one of tokenexp and separators"),
        ({"tokenexp": "a", "separators": ["a"]}, "one of tokenexp and separators"),
        ({"tokenexp": "[[:alpha:]]+"}, "character classes"),
        ({"tokenexp": "(a"}, "are no patterns"),
        ({"separators": ["a*"]}, "separators that match nothing"),
        ({"separators": ["("]}, "are no patterns"),
        ({"tokenexp": "a", "mincharnum": 0}, "mincharnum is 0"),
        ({"separators": [""], "mincharnum": 2}, "mincharnum is 2"),
    ],
)
def test_what_is_refused(attributes: dict[str, Any], words: str):
    model = model_of(**{"mark": 0, "mincharnum": 1, "pad_value": "#", **attributes})
    with pytest.raises(UnsupportedError, match=words):
        torsh_fx.compile(model)


@pytest.mark.parametrize("case", ["NONE", "LOWER", "UPPER"])
@pytest.mark.parametrize("sensitive", [0, 1])
@pytest.mark.parametrize("stopwords", [[], ["A", "the cat"], [""], ["the Cat", "Äb É", "", "a"]])
def test_only_stop_words_are_removed(case: str, sensitive: int, stopwords: list[str]):
    """Empty strings stay, and so do accents: the reference evaluator of onnx removes both."""
    words = {"stopwords": stopwords} if stopwords else {}
    node = helper.make_node(
        "StringNormalizer", ["x"], ["y"], case_change_action=case, is_case_sensitive=sensitive,
        locale="C.UTF-8", **words,
    )  # fmt: skip
    values = [helper.make_tensor_value_info(name, 8, ["n"]) for name in "xy"]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = np.array(["the Cat", "Äb É", "", "A", "a"], object)
    (expected,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    assert torsh_fx.compile(model).run([x])[0].tolist() == expected.tolist()


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
def test_counts_of_rows_without_tokens(mode: str):
    """Of texts of which nothing is left, and of no texts at all."""
    node = helper.make_node(
        "TfIdfVectorizer", ["x"], ["y"], mode=mode, min_gram_length=1, max_gram_length=2,
        max_skip_count=1, ngram_counts=[0, 2], ngram_indexes=[2, 0, 1],
        pool_strings=["a", "b", "a", "b"], weights=[0.5, 2.0, 3.0],
    )  # fmt: skip
    x = helper.make_tensor_value_info("x", 8, ["n", "c"])
    y = helper.make_tensor_value_info("y", 1, ["n", 3])
    graph = helper.make_graph([node], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session, compiled = ort.InferenceSession(model.SerializeToString()), torsh_fx.compile(model)
    full = np.array([["a", "b", "a", "#"], ["b", "#", "#", "b"]], object)
    for rows in (full, full[:, :1], full[:, :0]):
        np.testing.assert_array_equal(compiled.run([rows])[0], session.run(None, {"x": rows})[0])
    assert compiled.run([full[:0]])[0].shape == (0, 3)  # onnxruntime refuses it
