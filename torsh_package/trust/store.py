"""The trust store: keys, who may sign what, what is revoked, and how all that may change.

A store is a local file, trusted because of where it lies. It changes through updates that are
signed by the root's threshold of the store in use and by that of the new one, and whose version
is higher: neither an old store nor one of a stranger can be slipped in.
"""

import datetime as dt
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

from torsh_package.canonical_json import JsonObject, JsonValue, dumps, loads
from torsh_package.errors import (
    InvalidArgumentError,
    ManifestError,
    PackageError,
    SignatureError,
    UnsupportedVersionError,
)
from torsh_package.schema import Fields
from torsh_package.small_files import read_file, replace_file
from torsh_package.times import format_time, now
from torsh_package.trust.dsse import Envelope, dump_envelopes, load_envelopes
from torsh_package.trust.keys import PrivateKey, PublicKey
from torsh_package.trust.policy import MAX_KEYS, Revocation, RevocationReason, Role, RootPolicy
from torsh_package.trust.report import TrustReport
from torsh_package.trust.statement import read_optional_time
from torsh_package.trust.verify import judge

STORE_TYPE = "application/vnd.torshpkg.trust+json"
MAX_STORE_BYTES = 4 << 20
SCHEMA = 1
_FORMAT = "torshpkg-trust"


@dataclass(frozen=True)
class TrustStore:
    """Whom to believe. Every changing method gives a new store with the next version.

    Args:
        keys: All keys that roles and root speak of.
        roles: Who may sign which packages. A package is trusted if one role is satisfied.
        revoked: Keys that no longer count.
        root: Who may sign updates of the store, or None for a store that only its owner edits.
        version: Grows with each change.
        expires: The store may not be used after that: it would hide newer revocations.
        clock_skew: How far a signer's clock may be ahead.
    """

    keys: tuple[PublicKey, ...] = ()
    roles: tuple[Role, ...] = ()
    revoked: tuple[Revocation, ...] = ()
    root: RootPolicy | None = None
    version: int = 1
    expires: dt.datetime | None = None
    clock_skew: dt.timedelta = dt.timedelta(minutes=5)

    def __post_init__(self) -> None:
        known = {key.key_id for key in self.keys}
        if len(known) != len(self.keys):
            raise InvalidArgumentError("the trust store lists a key twice")
        if len({role.name for role in self.roles}) != len(self.roles):
            raise InvalidArgumentError("the trust store has two roles of one name")
        named = {key_id for role in self.roles for key_id in role.key_ids}
        named |= set(self.root.key_ids) if self.root else set()
        if named - known:
            raise InvalidArgumentError(f"key {min(named - known)[:16]} is used but not listed")

    @classmethod
    def trusting(
        cls, keys: Iterable[PublicKey], *, threshold: int = 1, packages: Iterable[str] = ("**",)
    ) -> "TrustStore":
        """A store with one role: `threshold` of `keys` must sign packages of these names."""
        listed = tuple(dict.fromkeys(keys))
        ids = tuple(key.key_id for key in listed)
        return cls(keys=listed, roles=(Role("publisher", tuple(packages), ids, threshold),))

    def key(self, key_id: str) -> PublicKey | None:
        """The key of an id."""
        return next((key for key in self.keys if key.key_id == key_id), None)

    def revocation(self, key_id: str) -> Revocation | None:
        """The revocation of a key."""
        return next((entry for entry in self.revoked if entry.key_id == key_id), None)

    # Changes

    def with_role(self, role: Role, keys: Iterable[PublicKey] = ()) -> "TrustStore":
        """Add or replace a role, with the keys that are new."""
        merged = tuple(dict.fromkeys((*self.keys, *keys)))
        roles = (*(old for old in self.roles if old.name != role.name), role)
        return replace(self, keys=merged, roles=roles, version=self.version + 1)

    def revoke(
        self,
        key_id: str,
        *,
        since: dt.datetime | None = None,
        reason: RevocationReason = RevocationReason.COMPROMISED,
    ) -> "TrustStore":
        """Revoke a key, from now on or from `since`."""
        if self.key(key_id) is None:
            raise InvalidArgumentError(f"the trust store has no key {key_id[:16]!r}")
        entry = Revocation(key_id, since or now(), reason)
        revoked = (*(old for old in self.revoked if old.key_id != key_id), entry)
        return replace(self, revoked=revoked, version=self.version + 1)

    def with_root(self, root: RootPolicy, keys: Iterable[PublicKey] = ()) -> "TrustStore":
        """Set or rotate the root; the update then needs the old and the new threshold."""
        merged = tuple(dict.fromkeys((*self.keys, *keys)))
        return replace(self, keys=merged, root=root, version=self.version + 1)

    # Signed updates

    def signed_update(self, keys: Iterable[PrivateKey]) -> bytes:
        """The store as an update that other holders of its predecessor can apply."""
        envelope = Envelope(STORE_TYPE, self.to_bytes())
        for key in keys:
            envelope = envelope.signed(key)
        return dump_envelopes([envelope])

    def updated(self, update: bytes) -> "TrustStore":
        """The store of a signed update.

        Raises:
            SignatureError: Old or new root threshold not reached, or no higher version.
        """
        if self.root is None:
            raise SignatureError("this trust store has no root: only its owner may change it")
        envelopes = load_envelopes(update)
        if len(envelopes) != 1 or envelopes[0].payload_type != STORE_TYPE:
            raise SignatureError("is no trust store update")
        (envelope,) = envelopes
        # The old root is asked before anything in the payload is believed, or even parsed.
        self._require_root(envelope, "present")
        new = TrustStore.parse(envelope.payload)
        if new.root is None:
            raise SignatureError("the update would remove the root")
        new._require_root(envelope, "new")
        if new.version <= self.version:
            raise SignatureError(
                f"trust store version {new.version} is not above {self.version}: a rollback"
            )
        return new

    def _require_root(self, envelope: Envelope, which: str) -> None:
        if self.root is None:
            raise SignatureError("the trust store has no root")
        candidates = [
            key
            for key in self.keys
            if key.key_id in self.root.key_ids and self.revocation(key.key_id) is None
        ]
        count = sum(envelope.is_signed_by(key) for key in candidates)
        if count < self.root.threshold:
            raise SignatureError(
                f"the update has {count} of {self.root.threshold} signatures of the {which} root"
            )

    # Decisions

    def evaluate(
        self, manifest: bytes, signatures: bytes | None, at: dt.datetime | None = None
    ) -> TrustReport:
        """Judge a package; the report says why it is trusted or not.

        Args:
            manifest: Exact bytes of `manifest.json`.
            signatures: Bytes of `META/signatures.dsse.json` or of a detached `.sig`, or None.
            at: The moment to judge for; the clock if None.

        Raises:
            SignatureError: The signatures are malformed.
        """
        return judge(self, manifest, signatures, at or now())

    def verify_manifest(self, manifest: bytes, signatures: bytes | None) -> TrustReport:
        """`evaluate`, but raise `UntrustedError` unless trusted."""
        return self.evaluate(manifest, signatures).require()

    # Files

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        keys: list[JsonValue] = [
            {"algorithm": key.algorithm.value, "pem": key.pem.decode()} for key in self.keys
        ]
        text: JsonObject = {
            "format": _FORMAT,
            "schema": SCHEMA,
            "version": self.version,
            "expires": None if self.expires is None else format_time(self.expires),
            "clockSkewSeconds": int(self.clock_skew.total_seconds()),
            "keys": keys,
            "roles": [role.to_json() for role in self.roles],
            "revoked": [entry.to_json() for entry in self.revoked],
            "root": None if self.root is None else self.root.to_json(),
        }
        return dumps(text)

    @classmethod
    def parse(cls, data: bytes) -> "TrustStore":
        """Read a store.

        Raises:
            ManifestError: It is malformed or contradicts itself.
        """
        try:
            return _read_store(data)
        except InvalidArgumentError as error:
            raise ManifestError(f"trust store: {error.message}") from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "TrustStore":
        """Read a store file; raises as `parse`, and `StorageError` if it cannot be read."""
        data = read_file(path, MAX_STORE_BYTES)
        try:
            return cls.parse(data)
        except PackageError as error:
            error.place(os.fspath(path))
            raise

    def save(self, path: str | os.PathLike[str]) -> None:
        """Replace a store file atomically."""
        replace_file(path, self.to_bytes())


def _read_store(data: bytes) -> TrustStore:
    fields = Fields(loads(data, entry="trust store", limit=MAX_STORE_BYTES), "trust store")
    fields.choice("format", frozenset({_FORMAT}))
    schema = fields.integer("schema")
    if schema != SCHEMA:
        raise UnsupportedVersionError(f"trust store schema {schema}; this reader knows {SCHEMA}")
    root = fields.optional_nested("root")
    store = TrustStore(
        version=fields.integer("version", 1),
        expires=read_optional_time(fields, "expires"),
        clock_skew=dt.timedelta(seconds=fields.integer("clockSkewSeconds", 0, 24 * 3600)),
        keys=fields.items("keys", MAX_KEYS, _read_key),
        roles=fields.items("roles", MAX_KEYS, Role.from_fields),
        revoked=fields.items("revoked", MAX_KEYS, Revocation.from_fields),
        root=None if root is None else RootPolicy.from_fields(root),
    )
    fields.end()
    return store


def _read_key(fields: Fields) -> PublicKey:
    key = PublicKey.from_pem(fields.string("pem"))
    stated = fields.string("algorithm")
    if stated != key.algorithm.value:
        raise fields.error("algorithm", f"{stated[:40]!r}, but the key is {key.algorithm.value}")
    fields.end()
    return key
