"""in-toto Statement v1 (https://in-toto.io/Statement/v1): what a signature says of which bytes."""

import datetime as dt
import hashlib
from dataclasses import dataclass

from torsh_package.canonical_json import JsonObject, JsonValue, dumps, loads
from torsh_package.errors import PackageError
from torsh_package.limits import DEFAULT_LIMITS, Limits
from torsh_package.schema import Fields
from torsh_package.times import format_time, parse_time
from torsh_package.trust.dsse import IN_TOTO, Envelope

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PACKAGE_PREDICATE = "https://torsh.dev/attestation/package/v1"
MAX_STATEMENT_BYTES = 1 << 20
MAX_SUBJECTS = 4096


@dataclass(frozen=True)
class Subject:
    """What a statement is about: a name, and the SHA-256 that really identifies it."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Statement:
    """A claim (`predicate`, of the kind `predicate_type`) about some subjects."""

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: JsonObject

    def to_bytes(self) -> bytes:
        """Canonical JSON: the payload of an envelope."""
        subjects: list[JsonValue] = [
            {"name": s.name, "digest": {"sha256": s.sha256}} for s in self.subjects
        ]
        return dumps(
            {
                "_type": STATEMENT_TYPE,
                "subject": subjects,
                "predicateType": self.predicate_type,
                "predicate": self.predicate,
            }
        )

    def envelope(self) -> Envelope:
        """An unsigned envelope around this statement."""
        return Envelope(IN_TOTO, self.to_bytes())

    @classmethod
    def parse(cls, payload: bytes, limits: Limits = DEFAULT_LIMITS) -> "Statement":
        """Read a payload whose signature has been verified; `ManifestError` if malformed."""
        text = loads(payload, entry="statement", limit=MAX_STATEMENT_BYTES)
        fields = Fields(text, "statement", limits)
        fields.choice("_type", frozenset({STATEMENT_TYPE}))
        statement = cls(
            subjects=fields.items("subject", MAX_SUBJECTS, _read_subject),
            predicate_type=fields.string("predicateType"),
            predicate=fields.free_object("predicate"),
        )
        fields.end()
        return statement


def _read_subject(fields: Fields) -> Subject:
    digest = fields.nested("digest")
    subject = Subject(fields.string("name"), digest.hexadecimal("sha256", 32).hex())
    digest.end()
    fields.end()
    return subject


@dataclass(frozen=True)
class PackageClaim:
    """What a package signature states besides the digest of the manifest.

    Args:
        name: Package name, None when other bytes than a manifest were signed.
        version: Package version, None likewise.
        size: Bytes that were signed.
        issued: When it was signed, as the signer says.
        not_before: The signature counts from then on.
        expires: The signature no longer counts after that.
        sequence: Number that grows with each release, against replay of old ones.
    """

    name: str | None
    version: str | None
    size: int
    issued: dt.datetime
    not_before: dt.datetime | None = None
    expires: dt.datetime | None = None
    sequence: int | None = None

    def statement(self, manifest: bytes) -> Statement:
        """The statement about these bytes."""
        subject = Subject(self.name or "", hashlib.sha256(manifest).hexdigest())
        return Statement((subject,), PACKAGE_PREDICATE, self.to_json())

    def to_json(self) -> JsonObject:
        """The predicate."""
        return {
            "name": self.name,
            "version": self.version,
            "size": self.size,
            "issued": format_time(self.issued),
            "notBefore": None if self.not_before is None else format_time(self.not_before),
            "expires": None if self.expires is None else format_time(self.expires),
            "sequence": self.sequence,
        }

    @classmethod
    def from_json(cls, value: JsonValue, limits: Limits = DEFAULT_LIMITS) -> "PackageClaim":
        """Read a predicate; `ManifestError` if it is malformed."""
        fields = Fields(value, "predicate", limits)
        claim = cls(
            name=fields.optional_string("name"),
            version=fields.optional_string("version"),
            size=fields.integer("size"),
            issued=read_time(fields, "issued"),
            not_before=read_optional_time(fields, "notBefore"),
            expires=read_optional_time(fields, "expires"),
            sequence=optional_integer(fields, "sequence"),
        )
        fields.end()
        return claim


def read_time(fields: Fields, key: str) -> dt.datetime:
    """A required time."""
    return parse_time(fields.checked(key, lambda text: format_time(parse_time(text))))


def read_optional_time(fields: Fields, key: str) -> dt.datetime | None:
    """A required field that holds a time or null."""
    if fields.has(key) and fields.left[key] is None:
        fields.take(key)
        return None
    return read_time(fields, key)


def optional_integer(fields: Fields, key: str) -> int | None:
    """A required field that holds a natural number or null."""
    if fields.has(key) and fields.left[key] is None:
        fields.take(key)
        return None
    return fields.integer(key)


def name_and_version(manifest: bytes) -> tuple[str | None, str | None]:
    """Package name and version, when the bytes are a manifest; other signed bytes have none."""
    try:
        value = loads(manifest, entry="manifest.json", limit=DEFAULT_LIMITS.manifest_bytes)
    except PackageError:
        return None, None
    if not isinstance(value, dict):
        return None, None
    name, version = value.get("name"), value.get("version")
    return name if isinstance(name, str) else None, version if isinstance(version, str) else None
