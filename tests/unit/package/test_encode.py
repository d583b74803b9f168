"""`encode` and `decode`: exact round trips, no pickle, typed errors for any bytes."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torsh_package import CodecError, InvalidArgumentError, PackageError, decode, encode

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
SCALARS = SCALARS.filter(lambda v: not isinstance(v, str) or not _surrogate(v))
KEYS = st.text(max_size=8).filter(lambda v: not _surrogate(v))
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)


def _surrogate(text: str) -> bool:
    return any(0xD800 <= ord(char) < 0xE000 for char in text)


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (a == b and math.copysign(1, a) == math.copysign(1, b)) or (a != a and b != b)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


@settings(deadline=None)
@given(VALUES)
def test_round_trip(value: Any) -> None:
    assert same(decode(encode(value)), value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.arange(6, dtype=np.float32).reshape(2, 3).T,
        np.array(3, np.int64),
        np.zeros((0, 4), np.uint8),
        np.array([True, False]),
        np.arange(4).astype(">i4"),
        np.array([1 + 1j]),
    ],
)
def test_arrays(array: Any) -> None:
    found = decode(encode({"a": [array]}))["a"][0]  # type: ignore[index]
    assert found.shape == array.shape
    assert found.dtype == array.dtype.newbyteorder("=")
    assert np.array_equal(found, array)
    assert found.flags.writeable


def test_model_is_its_state() -> None:
    class Model:
        def state_dict(self) -> dict[str, Any]:
            return {"fc.weight": np.ones((2, 2), np.float32)}

    found: Any = decode(encode(Model()))
    assert list(found) == ["fc.weight"]
    assert np.array_equal(found["fc.weight"], np.ones((2, 2)))


def test_torch_module() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.BatchNorm1d(3)
    found: Any = decode(encode(model))
    for name, tensor in model.state_dict().items():
        assert np.array_equal(found[name], tensor.numpy())


@pytest.mark.parametrize("bad", [object(), {1: 2}, {1, 2}, np.array([object()]), "\ud800", [print]])
def test_what_cannot_be_encoded(bad: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        encode(bad)


def test_nesting() -> None:
    value: Any = 0
    for _ in range(100):
        value = [value]
    with pytest.raises(InvalidArgumentError, match="deeper"):
        encode(value)
    raw = encode(0)[:9] + b"\7\1\0\0\0\0\0\0\0" * 100_000 + b"\0"
    with pytest.raises(PackageError, match="deeper"):
        decode(raw)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes(raw: bytes) -> None:
    for candidate in (raw, encode(0)[:9] + raw):
        try:
            value = decode(candidate)
        except PackageError:
            continue
        assert encode(value) == candidate


@settings(max_examples=50, deadline=None)
@given(VALUES, st.data())
def test_truncated_or_followed(value: Any, data: Any) -> None:
    raw = encode(value)
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(CodecError):
        decode(raw[:cut])
    with pytest.raises(CodecError):
        decode(raw + b"\0")


def test_announced_sizes_are_not_believed() -> None:
    head = encode(0)[:9]
    huge = (1 << 62).to_bytes(8, "little")
    for tag in (3, 5, 6, 7, 8, 9):
        with pytest.raises(CodecError, match="truncated"):
            decode(head + bytes([tag]) + huge)
    with pytest.raises(PackageError):
        decode(head + b"\x0a" + b"\3\0\0\0\0\0\0\0f32" + b"\2\0\0\0\0\0\0\0" + huge * 2 + bytes(8))
