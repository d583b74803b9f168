"""Typed reading of JSON objects: each field is taken once, and what is left over is refused."""

import re
from collections.abc import Callable
from typing import TypeVar, cast

from torsh_package.canonical_json import (
    MAX_INTEGER,
    JsonObject,
    JsonValue,
    check,
    check_string,
)
from torsh_package.errors import InvalidArgumentError, LimitError, ManifestError
from torsh_package.limits import DEFAULT_LIMITS, Limits

T = TypeVar("T")
_HEX = re.compile(r"(?:[0-9a-f]{2})+")
MISSING = object()


class Fields:
    """The fields of one JSON object that are still to be read.

    Args:
        value: What the parser gave where an object is expected.
        where: Path of that object in the document, for messages.
        limits: Bounds on strings, names and depth.
        lenient: Ignore unknown fields instead of refusing them: the document's minor version is
            newer than this reader, and minor versions only add.
    """

    def __init__(
        self, value: JsonValue, where: str, limits: Limits = DEFAULT_LIMITS, lenient: bool = False
    ):
        if not isinstance(value, dict):
            raise ManifestError(f"{where}: expected an object, found {_kind(value)}")
        self.left: JsonObject = dict(value)
        self.where = where
        self.limits = limits
        self.lenient = lenient

    def error(self, key: str, problem: str) -> ManifestError:
        """A `ManifestError` that names this object's field `key`."""
        return ManifestError(f"{self.where}.{key}: {problem}")

    def take(self, key: str) -> JsonValue:
        """The value of a required field."""
        value = self.left.pop(key, cast(JsonValue, MISSING))
        if value is MISSING:
            raise self.error(key, "is missing")
        return value

    def has(self, key: str) -> bool:
        """Whether an optional field is there."""
        return key in self.left

    def string(self, key: str) -> str:
        """A required string within the limits."""
        value = self.take(key)
        if not isinstance(value, str):
            raise self.error(key, f"expected a string, found {_kind(value)}")
        check_string(value, what=f"{self.where}.{key}", limits=self.limits)
        return value

    def optional_string(self, key: str) -> str | None:
        """A required field that holds a string or null."""
        if self.left.get(key, MISSING) is None:
            del self.left[key]
            return None
        return self.string(key)

    def choice(self, key: str, allowed: frozenset[str]) -> str:
        """A required string out of `allowed`."""
        value = self.string(key)
        if value not in allowed:
            raise self.error(key, f"{value[:80]!r} is unknown; known: {', '.join(sorted(allowed))}")
        return value

    def integer(self, key: str, low: int = 0, high: int = MAX_INTEGER) -> int:
        """A required integer in `low..high`."""
        return integer(self.take(key), f"{self.where}.{key}", low, high)

    def boolean(self, key: str) -> bool:
        """A required true or false."""
        value = self.take(key)
        if not isinstance(value, bool):
            raise self.error(key, f"expected true or false, found {_kind(value)}")
        return value

    def hexadecimal(self, key: str, size: int) -> bytes:
        """A required lower-case hexadecimal string of `size` bytes."""
        value = self.string(key)
        if len(value) != 2 * size or not _HEX.fullmatch(value):
            raise self.error(key, f"expected {size} bytes in lower-case hexadecimal")
        return bytes.fromhex(value)

    def array(self, key: str, limit: int) -> list[JsonValue]:
        """A required array of at most `limit` items."""
        value = self.take(key)
        if not isinstance(value, list):
            raise self.error(key, f"expected an array, found {_kind(value)}")
        if len(value) > limit:
            raise LimitError(f"{self.where}.{key}: {len(value)} items, limit {limit}")
        return value

    def strings(self, key: str, limit: int = 65_536) -> tuple[str, ...]:
        """A required array of strings."""
        found: list[str] = []
        for item in self.array(key, limit):
            if not isinstance(item, str):
                raise self.error(key, f"expected strings, found {_kind(item)}")
            check_string(item, what=f"{self.where}.{key}", limits=self.limits)
            found.append(item)
        return tuple(found)

    def items(self, key: str, limit: int, read: Callable[["Fields"], T]) -> tuple[T, ...]:
        """A required array of objects, each read by `read`."""
        return tuple(
            read(Fields(item, f"{self.where}.{key}[{i}]", self.limits, self.lenient))
            for i, item in enumerate(self.array(key, limit))
        )

    def nested(self, key: str) -> "Fields":
        """A required object."""
        return Fields(self.take(key), f"{self.where}.{key}", self.limits, self.lenient)

    def optional_nested(self, key: str) -> "Fields | None":
        """A required field that holds an object or null."""
        value = self.take(key)
        if value is None:
            return None
        return Fields(value, f"{self.where}.{key}", self.limits, self.lenient)

    def free_object(self, key: str) -> JsonObject:
        """A required object of any JSON within the limits, whose schema its owner checks."""
        value = self.take(key)
        if not isinstance(value, dict):
            raise self.error(key, f"expected an object, found {_kind(value)}")
        check(value, what=f"{self.where}.{key}", limits=self.limits)
        return value

    def extensions(self) -> JsonObject:
        """All fields named `x-...`."""
        found = {key: self.left.pop(key) for key in list(self.left) if key.startswith("x-")}
        check(found, what=self.where, limits=self.limits)
        return found

    def checked(self, key: str, check_value: Callable[[str], str]) -> str:
        """A required string that `check_value` accepts."""
        try:
            return check_value(self.string(key))
        except InvalidArgumentError as error:
            raise self.error(key, error.message) from None

    def end(self) -> None:
        """Refuses fields that nobody has read."""
        if self.left and not self.lenient:
            key = min(self.left)
            raise ManifestError(
                f"{self.where}: unknown field {key[:80]!r}; own fields must begin with 'x-'"
            )


def integer(value: JsonValue, what: str, low: int = 0, high: int = MAX_INTEGER) -> int:
    """`value` as an integer in `low..high`, or a `ManifestError` that says `what` it is."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ManifestError(f"{what}: expected an integer, found {_kind(value)}")
    if not low <= value <= high:
        raise ManifestError(f"{what}: {value:.17g} is outside {low}..{high}")
    return value


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
