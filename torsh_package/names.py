"""What a package, a version, a resource and an archive path may be called.

A name must mean the same file on every operating system, or nothing: so no absolute or parent
paths, control or invisible characters, Windows devices, and no two names that some file system
would take for one.
"""

import re
import unicodedata
from collections.abc import Iterable

from torsh_package.errors import InvalidArgumentError
from torsh_package.limits import DEFAULT_LIMITS, Limits

_PACKAGE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?")
# https://semver.org, with bounded digits so that no part can be an absurd number.
_NUMBER = r"(?:0|[1-9][0-9]{0,14})"
_PRE = r"(?:0|[1-9][0-9]{0,14}|[0-9]{0,15}[A-Za-z-][0-9A-Za-z-]{0,63})"
_SEMVER = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_PRE}(?:\.{_PRE}){{0,15}})?"
    r"(?:\+[0-9A-Za-z-]{1,64}(?:\.[0-9A-Za-z-]{1,64}){0,15})?"
)
_FORBIDDEN = re.compile(r'[\\:*?"<>|]')
# Zero-width, bidirectional, soft hyphen, variation selectors, tags: invisible in a listing.
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_WINDOWS_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{port}{digit}" for port in ("com", "lpt") for digit in "123456789¹²³"}
)


def check_package_name(name: str) -> str:
    """Returns `name`, or raises `InvalidArgumentError` if it cannot name a package.

    Allowed are ASCII letters, digits and inner `. _ - /`, at most 128 characters; `/` separates
    a publisher from a package (`acme/resnet`).
    """
    _require_text(name, "package name")
    if not _PACKAGE_NAME.fullmatch(name) or "//" in name or ".." in name:
        raise InvalidArgumentError(
            f"package name {name[:80]!r}: use up to 128 of A-Z a-z 0-9 . _ - /, "
            "beginning and ending with a letter or digit"
        )
    return name


def check_version(version: str) -> str:
    """Returns `version`, or raises `InvalidArgumentError` if it is not Semantic Versioning 2."""
    _require_text(version, "version")
    if len(version) > 256 or not _SEMVER.fullmatch(version):
        raise InvalidArgumentError(
            f"version {version[:80]!r} is not a semantic version; write it as 1.2.3 or 1.2.3-rc.1"
        )
    return version


def check_path(path: str, limits: Limits = DEFAULT_LIMITS) -> str:
    """Returns `path`, or raises `InvalidArgumentError` if it is not safe on every system."""
    _require_text(path, "name")
    problem = path_problem(path, limits)
    if problem:
        raise InvalidArgumentError(f"name {path[:80]!r}: {problem}")
    return path


def _require_text(value: object, what: str) -> None:
    if not isinstance(value, str):
        raise InvalidArgumentError(f"{what}: {value!r:.80} is {type(value).__name__}, not text")


def path_problem(path: str, limits: Limits = DEFAULT_LIMITS) -> str | None:
    """What is wrong with an archive path, or None."""
    try:
        size = len(path.encode("utf-8"))
    except UnicodeEncodeError:
        return "holds a lone surrogate"
    if not path:
        return "is empty"
    if size > limits.name_bytes:
        return f"has {size} bytes, limit {limits.name_bytes}"
    if path.startswith("/"):
        return "is absolute"
    found = _FORBIDDEN.search(path)
    if found:
        return f"holds {found.group()!r}"
    if not (path.isascii() and path.isprintable()):
        problem = _unicode_problem(path)
        if problem:
            return problem
    return next(filter(None, map(_component_problem, path.split("/"))), None)


def _unicode_problem(path: str) -> str | None:
    if unicodedata.normalize("NFC", path) != path:
        return "is not in Unicode normal form C"
    for char in path:
        if unicodedata.category(char) in _INVISIBLE_CATEGORIES or 0xFE00 <= ord(char) <= 0xFE0F:
            return f"holds the invisible or control character U+{ord(char):04X}"
    return None


def _component_problem(part: str) -> str | None:
    if part in ("", ".", ".."):
        return f"has the component {part!r}"
    if part[-1] in " ." or part[0] == " ":
        return "has a component that begins or ends with a space, or ends with a dot"
    if len(part.encode("utf-8")) > 255:
        return "has a component of over 255 bytes"
    if part.split(".")[0].rstrip().casefold() in _WINDOWS_DEVICES:
        return f"has the Windows device name {part!r}"
    return None


def collision_key(path: str) -> str:
    """Equal for two paths that some file system or reader may take for the same."""
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())


def find_collision(paths: Iterable[str]) -> str | None:
    """Describes two paths that clash (same, case, normal form, file against folder), or None."""
    seen: dict[str, str] = {}
    for path in paths:
        key = collision_key(path)
        if key in seen:
            return f"{path!r} and {seen[key]!r} are one name on some file systems"
        seen[key] = path
    for key, path in seen.items():
        end = key.rfind("/")
        while end > 0:
            if key[:end] in seen:
                return f"{seen[key[:end]]!r} is a file and also a folder of {path!r}"
            end = key.rfind("/", 0, end)
    return None


class NameSet:
    """Paths of one archive as they are added; refuses the unsafe and the clashing."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS):
        self._limits = limits
        self._files: dict[str, str] = {}
        self._folders: dict[str, int] = {}

    def add(self, path: str) -> None:
        """Adds a path.

        Raises:
            InvalidArgumentError: It is unsafe or clashes with one that is there.
        """
        check_path(path, self._limits)
        key = collision_key(path)
        if key in self._files:
            raise InvalidArgumentError(
                f"name {path[:80]!r} is taken by {self._files[key][:80]!r} "
                "(names that differ only in case or form are one name on some file systems)"
            )
        if key in self._folders:
            raise InvalidArgumentError(f"name {path[:80]!r} is a folder of other names")
        parents = _parents(key)
        for parent in parents:
            if parent in self._files:
                raise InvalidArgumentError(f"name {path[:80]!r} lies below a file of that name")
        self._files[key] = path
        for parent in parents:
            self._folders[parent] = self._folders.get(parent, 0) + 1

    def remove(self, path: str) -> None:
        """Removes a path that was added."""
        key = collision_key(path)
        del self._files[key]
        for parent in _parents(key):
            self._folders[parent] -= 1
            if not self._folders[parent]:
                del self._folders[parent]


def _parents(key: str) -> list[str]:
    parts = key.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
