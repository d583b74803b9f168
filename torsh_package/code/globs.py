"""Module patterns as `torch.package` has them: `*` within one component, `**` across them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from torsh_package.errors import CodePolicyError

_COMPONENT = re.compile(r"\*\*|(?:[^\W\d]\w*|\*)(?:\w|\*)*")
_MAX_PATTERN = 512


@dataclass(frozen=True)
class ModuleGlob:
    """Matches a module that fits any of `include` and none of `exclude`.

    `**` as a component matches any number of components, also none: `torch.**` matches `torch`
    and all below it; `*` within a component matches any part of it.

    Raises:
        CodePolicyError: when a pattern is malformed.
    """

    include: tuple[str, ...]
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for pattern in (*self.include, *self.exclude):
            parts = pattern.split(".")
            mixed = any("**" in part and part != "**" for part in parts)
            if mixed or len(pattern) > _MAX_PATTERN or not all(map(_COMPONENT.fullmatch, parts)):
                raise CodePolicyError(
                    f"module pattern {pattern[:80]!r} is malformed; write one such as "
                    "package.module, package.* or package.**"
                )

    @classmethod
    def of(cls, include: str | Iterable[str], exclude: str | Iterable[str] = ()) -> "ModuleGlob":
        """The glob for one pattern or several."""
        return cls(_tuple(include), _tuple(exclude))

    @cached_property
    def _included(self) -> tuple["re.Pattern[str]", ...]:
        return tuple(map(_compile, self.include))

    @cached_property
    def _excluded(self) -> tuple["re.Pattern[str]", ...]:
        return tuple(map(_compile, self.exclude))

    def matches(self, module: str) -> bool:
        """Whether the dotted name `module` matches."""
        dotted = "." + module
        included = any(pattern.fullmatch(dotted) for pattern in self._included)
        return included and not any(pattern.fullmatch(dotted) for pattern in self._excluded)


def _tuple(patterns: str | Iterable[str]) -> tuple[str, ...]:
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def _compile(pattern: str) -> "re.Pattern[str]":
    """Over names with a dot before each component; linear, as no part can match a dot twice."""
    parts = [
        r"(?:\.[^.]+)*" if part == "**" else r"\." + r"[^.]*".join(map(re.escape, part.split("*")))
        for part in pattern.split(".")
    ]
    return re.compile("".join(parts))


def patterns_of(patterns: Iterable[str]) -> list[str]:
    """The same patterns as regular expressions over names with a dot before each component."""
    return [_compile(pattern).pattern for pattern in patterns]
