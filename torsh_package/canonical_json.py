"""Strict reading and writing of RFC 8785 (JCS) JSON without floating-point numbers.

Every JSON text in a package has exactly one accepted spelling: keys sorted by UTF-16 code units,
no white space, shortest escapes, integers of at most 53 bits. The reader parses and then writes
again; a text that does not come back byte for byte is refused.
"""

import json
from collections.abc import Callable
from typing import NoReturn, TypeAlias, cast

from torsh_package.errors import LimitError, ManifestError
from torsh_package.limits import DEFAULT_LIMITS, Limits

JsonValue: TypeAlias = "bool | int | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]

MAX_INTEGER = (1 << 53) - 1


def dumps(value: JsonValue) -> bytes:
    """The canonical UTF-8 bytes of `value`.

    The caller has checked free-form parts with `check`; numbers are not looked at again here.

    Raises:
        ManifestError: A string holds a lone surrogate.
    """
    try:
        text = _encode(value)
        if not text.isascii():
            text = _encode(_sorted_utf16(value), sort_keys=False)
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ManifestError(f"a string holds a lone surrogate: {error.reason}") from error


def loads(
    raw: bytes | memoryview, *, entry: str, limit: int, limits: Limits = DEFAULT_LIMITS
) -> JsonValue:
    """Parses canonical JSON.

    Args:
        raw: The text in UTF-8.
        entry: Name of the archive entry, for messages.
        limit: Most bytes that are accepted.
        limits: Bound on the number of objects.

    Raises:
        LimitError: `raw` is longer than `limit`, or has too many objects to be read in time.
        ManifestError: `raw` is not JSON, not canonical, or holds a number that is no integer.
    """
    if len(raw) > limit:
        raise LimitError(f"JSON text of {len(raw)} bytes, limit {limit}", entry=entry)
    raw = bytes(raw)
    # Counted before parsing, as objects are what takes time; braces inside strings count too.
    objects = raw.count(b"{")
    if objects > limits.json_objects:
        raise LimitError(f"{objects} JSON objects, limit {limits.json_objects}", entry=entry)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ManifestError("text is not UTF-8", entry=entry, offset=error.start) from error
    try:
        value = cast(
            JsonValue, json.loads(text, parse_float=_refuse_float, parse_constant=_refuse_float)
        )
    except RecursionError:
        raise ManifestError("JSON is nested too deeply", entry=entry) from None
    except ValueError as error:
        raise ManifestError(f"not JSON: {error}"[:300], entry=entry) from None
    _require_canonical(text, raw, value, entry)
    return value


def check(value: object, *, what: str, limits: Limits = DEFAULT_LIMITS) -> None:
    """Checks free-form JSON: only JSON types, 53-bit integers, bounded strings and depth.

    Raises:
        ManifestError: A value cannot be written as canonical JSON.
        LimitError: A string or the nesting is over `limits`.
    """
    stack: list[tuple[object, int]] = [(value, 1)]
    while stack:
        item, depth = stack.pop()
        if depth > limits.json_depth:
            raise LimitError(f"{what}: nested deeper than {limits.json_depth}")
        if item is None or isinstance(item, bool):
            continue
        if isinstance(item, int):
            if abs(item) > MAX_INTEGER:
                raise ManifestError(f"{what}: integer {item:.6e} is over 2^53-1")
        elif isinstance(item, str):
            check_string(item, what=what, limits=limits)
        elif isinstance(item, list):
            stack.extend((child, depth + 1) for child in cast(list[object], item))
        elif isinstance(item, dict):
            for key, child in cast(dict[object, object], item).items():
                if not isinstance(key, str):
                    raise ManifestError(f"{what}: object key {key!r} is not a string")
                check_string(key, what=what, limits=limits)
                stack.append((child, depth + 1))
        else:
            raise ManifestError(
                f"{what}: {type(item).__name__} is not storable; use integers and strings"
            )


def check_string(text: str, *, what: str, limits: Limits = DEFAULT_LIMITS) -> None:
    """Checks length and Unicode validity of one string.

    Raises:
        ManifestError: The string holds a lone surrogate.
        LimitError: Its UTF-8 form is longer than `limits.string_bytes`.
    """
    try:
        size = len(text) if text.isascii() else len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise ManifestError(f"{what}: string holds a lone surrogate") from None
    if size > limits.string_bytes:
        raise LimitError(f"{what}: string of {size} bytes, limit {limits.string_bytes}")


def _encode(value: JsonValue, sort_keys: bool = True) -> str:
    return json.dumps(
        value, ensure_ascii=False, sort_keys=sort_keys, separators=(",", ":"), allow_nan=False
    )


def _sorted_utf16(value: JsonValue) -> JsonValue:
    if isinstance(value, list):
        return [_sorted_utf16(item) for item in value]
    if isinstance(value, dict):
        return {key: _sorted_utf16(value[key]) for key in sorted(value, key=_utf16)}
    return value


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be")


def _refuse_float(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is not an integer; only integers are allowed")


def _require_canonical(text: str, raw: bytes, value: JsonValue, entry: str) -> None:
    again = dumps(value)
    if again == raw:
        return

    def unique(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
        found = dict(pairs)
        if len(found) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ManifestError(f"duplicate key {twice[:80]!r}", entry=entry)
        return found

    hook: Callable[[list[tuple[str, JsonValue]]], JsonObject] = unique
    json.loads(text, object_pairs_hook=hook)
    offset = next(
        (i for i, (a, b) in enumerate(zip(raw, again, strict=False)) if a != b),
        min(len(raw), len(again)),
    )
    raise ManifestError("JSON is not in canonical form (RFC 8785)", entry=entry, offset=offset)
