"""What a trust store holds besides keys: roles, revocations and the root that may change it."""

import datetime as dt
import enum
import re
from dataclasses import dataclass
from functools import lru_cache

from torsh_package.canonical_json import JsonObject
from torsh_package.errors import InvalidArgumentError
from torsh_package.schema import Fields
from torsh_package.times import format_time
from torsh_package.trust.statement import optional_integer, read_optional_time

MAX_KEYS = 1024


@lru_cache(maxsize=1024)
def _pattern(glob: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*)", glob)
    spelled = {"**": ".*", "*": "[^/]*"}
    return re.compile("".join(spelled.get(part, re.escape(part)) for part in parts))


def matches(glob: str, name: str) -> bool:
    """Whether a package name fits: `*` stands for any characters but `/`, `**` for any."""
    return _pattern(glob).fullmatch(name) is not None


@dataclass(frozen=True)
class Role:
    """Who may sign which packages.

    Args:
        name: Unique in the store.
        packages: Patterns of package names (`acme/*`).
        key_ids: Keys that may sign.
        threshold: How many different ones must.
        not_before: The role counts from then on.
        expires: The role no longer counts after that.
        min_sequence: Lowest `sequence` of a release that is still accepted.
    """

    name: str
    packages: tuple[str, ...]
    key_ids: tuple[str, ...]
    threshold: int = 1
    not_before: dt.datetime | None = None
    expires: dt.datetime | None = None
    min_sequence: int | None = None

    def __post_init__(self) -> None:
        check_threshold(f"role {self.name!r}", self.key_ids, self.threshold)
        if not self.packages:
            raise InvalidArgumentError(f"role {self.name!r} names no packages; '**' means all")

    def covers(self, package: str) -> bool:
        """Whether the role speaks of packages of this name."""
        return any(matches(glob, package) for glob in self.packages)

    def to_json(self) -> JsonObject:
        """The JSON form."""
        return {
            "name": self.name,
            "packages": list(self.packages),
            "keys": list(self.key_ids),
            "threshold": self.threshold,
            "notBefore": None if self.not_before is None else format_time(self.not_before),
            "expires": None if self.expires is None else format_time(self.expires),
            "minSequence": self.min_sequence,
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> "Role":
        """Read the JSON form."""
        role = cls(
            name=fields.string("name"),
            packages=fields.strings("packages", MAX_KEYS),
            key_ids=fields.strings("keys", MAX_KEYS),
            threshold=fields.integer("threshold", 1, MAX_KEYS),
            not_before=read_optional_time(fields, "notBefore"),
            expires=read_optional_time(fields, "expires"),
            min_sequence=optional_integer(fields, "minSequence"),
        )
        fields.end()
        return role


class RevocationReason(enum.Enum):
    """Why a key was revoked, which decides whether its older signatures still count."""

    COMPROMISED = "compromised"
    SUPERSEDED = "superseded"


@dataclass(frozen=True)
class Revocation:
    """A key that is no longer trusted.

    Args:
        key_id: The key.
        since: When it was revoked.
        reason: A compromised key never counts (a thief can write any date); of a superseded one
            the signatures issued before `since` do.
    """

    key_id: str
    since: dt.datetime
    reason: RevocationReason = RevocationReason.COMPROMISED

    def voids(self, issued: dt.datetime) -> bool:
        """Whether a signature issued then is void."""
        return self.reason is RevocationReason.COMPROMISED or issued >= self.since

    def to_json(self) -> JsonObject:
        """The JSON form."""
        return {
            "key": self.key_id,
            "since": format_time(self.since),
            "reason": self.reason.value,
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> "Revocation":
        """Read the JSON form."""
        since = read_optional_time(fields, "since")
        if since is None:
            raise fields.error("since", "a revocation needs its time")
        reasons = frozenset(reason.value for reason in RevocationReason)
        revocation = cls(
            key_id=fields.string("key"),
            since=since,
            reason=RevocationReason(fields.choice("reason", reasons)),
        )
        fields.end()
        return revocation


@dataclass(frozen=True)
class RootPolicy:
    """Who may change the trust store."""

    key_ids: tuple[str, ...]
    threshold: int = 1

    def __post_init__(self) -> None:
        check_threshold("the root", self.key_ids, self.threshold)

    def to_json(self) -> JsonObject:
        """The JSON form."""
        return {"keys": list(self.key_ids), "threshold": self.threshold}

    @classmethod
    def from_fields(cls, fields: Fields) -> "RootPolicy":
        """Read the JSON form."""
        root = cls(fields.strings("keys", MAX_KEYS), fields.integer("threshold", 1, MAX_KEYS))
        fields.end()
        return root


def check_threshold(who: str, key_ids: tuple[str, ...], threshold: int) -> None:
    """Refuse a threshold that is zero or that its keys can never reach."""
    if len(set(key_ids)) != len(key_ids):
        raise InvalidArgumentError(f"{who} lists a key twice")
    if not 1 <= threshold <= len(key_ids):
        raise InvalidArgumentError(f"{who}: threshold {threshold} of {len(key_ids)} keys")
