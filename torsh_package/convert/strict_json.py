"""Foreign JSON: no duplicate keys, NaN, infinities or bottomless nesting."""

import json
from typing import NoReturn

from torsh_package.errors import ConversionError, LimitError
from torsh_package.limits import DEFAULT_LIMITS, Limits

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]


def loads(raw: bytes, *, entry: str, limits: Limits = DEFAULT_LIMITS) -> JsonValue:
    """Parse UTF-8 JSON.

    Raises:
        ConversionError: when it is malformed or ambiguous.
        LimitError: when it is over `limits.manifest_bytes`.
    """
    if len(raw) > limits.manifest_bytes:
        raise LimitError(
            f"{len(raw)} bytes of JSON; the limit is {limits.manifest_bytes}", entry=entry
        )

    def refuse(text: str) -> NoReturn:
        raise ConversionError(f"JSON holds {text}", entry=entry)

    def unique(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
        found = dict(pairs)
        if len(found) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ConversionError(f"JSON holds the key {twice[:80]!r} twice", entry=entry)
        return found

    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConversionError):
            raise
        raise ConversionError(f"malformed JSON: {str(error)[:120]}", entry=entry) from error


def load_object(raw: bytes, *, entry: str, limits: Limits = DEFAULT_LIMITS) -> dict[str, JsonValue]:
    """Parse a JSON object; raises as `loads` does."""
    value = loads(raw, entry=entry, limits=limits)
    if not isinstance(value, dict):
        raise ConversionError("JSON holds no object", entry=entry)
    return value
