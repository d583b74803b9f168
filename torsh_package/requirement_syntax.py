"""Requirements on other packages as the manifest stores them: data and syntax only.

What a requirement means (caret ranges, PEP 440, markers) and which versions satisfy it is the
business of `torsh_package.dependencies`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torsh_package.canonical_json import JsonObject
from torsh_package.errors import DependencyError, InvalidArgumentError
from torsh_package.schema import Fields

KINDS = frozenset({"torsh", "pip"})
MAX_REQUIREMENT = 512
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?")
_FEATURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+/-]{0,127}")
_PART = r"(?:\*|x|X|[0-9]{1,15})"
_CARGO = re.compile(
    rf" *(?:\^|~|=|>=|<=|>|<)? *{_PART}(?:\.{_PART}){{0,2}}(?:-[0-9A-Za-z.-]{{1,64}})?"
    r"(?:\+[0-9A-Za-z.-]{1,64})? *"
)
_PEP440 = re.compile(r" *(?:===|==|~=|!=|>=|<=|>|<) *[0-9A-Za-z.*+!_-]{1,128} *")


@dataclass(frozen=True)
class DependencySpec:
    """A requirement on another package.

    Attributes:
        name: Package name.
        version_req: Versions that will do: Cargo syntax (`^0.1.0`, `~1.2`, `1.*`, `>=1, <2`) for
            kind `torsh`, PEP 440 (`>=1.24,<3`) or nothing for kind `pip`.
        optional: Whether the package works without it.
        features: Features (extras) of it that are needed.
        platform: Environment marker or target pattern it is needed on; None for all.
        kind: `torsh` for packages like this one, `pip` for Python distributions.
    """

    name: str
    version_req: str = "*"
    optional: bool = False
    features: Sequence[str] = ()
    platform: str | None = None
    kind: str = "torsh"

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", tuple(self.features))

    def check(self) -> "DependencySpec":
        """Returns itself, or raises `DependencyError` if its syntax is wrong."""
        if self.kind not in KINDS:
            raise DependencyError(f"dependency kind {self.kind[:40]!r}: use torsh or pip")
        if not _NAME.fullmatch(self.name):
            raise DependencyError(f"dependency name {self.name[:80]!r} is not usable")
        bad = [f for f in self.features if not _FEATURE.fullmatch(f)]
        if bad:
            raise DependencyError(f"dependency {self.name}: feature {bad[0][:80]!r} is not usable")
        if not _requirement_ok(self.version_req, self.kind):
            raise DependencyError(
                f"dependency {self.name}: version requirement {self.version_req[:80]!r} is "
                "malformed; write ^1.2.3, ~1.2, 1.*, >=1.0, <2.0 (torsh) or PEP 440 (pip)"
            )
        return self

    def to_json(self) -> JsonObject:
        """The JSON form."""
        return {
            "name": self.name,
            "req": self.version_req,
            "kind": self.kind,
            "optional": self.optional,
            "features": list(self.features),
            "platform": self.platform,
        }

    @classmethod
    def from_json(cls, fields: Fields) -> "DependencySpec":
        """Reads and checks the JSON form."""
        found = cls(
            name=fields.string("name"),
            version_req=fields.string("req"),
            kind=fields.string("kind"),
            optional=fields.boolean("optional"),
            features=fields.strings("features", 1024),
            platform=fields.optional_string("platform"),
        )
        fields.end()
        try:
            return found.check()
        except (DependencyError, InvalidArgumentError) as error:
            raise fields.error("req", error.message) from None


def _requirement_ok(text: str, kind: str) -> bool:
    if len(text) > MAX_REQUIREMENT:
        return False
    if kind == "pip" and not text.strip():
        return True
    pattern = _CARGO if kind == "torsh" else _PEP440
    return all(pattern.fullmatch(part) for part in text.split(","))
