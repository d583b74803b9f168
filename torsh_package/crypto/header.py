"""The encryption header `META/encryption.json`: algorithm, recipients, and a MAC over all of it.

The header lies outside the manifest, so recipients change without touching payload, manifest or
signatures. Its MAC is keyed by the content key and also covers the digest of the manifest: whoever
opens a package with a password or key knows that names, types and unencrypted entries are those
of the person who encrypted it.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from torsh_package.canonical_json import JsonObject, dumps, loads
from torsh_package.crypto.algorithms import KEY_BYTES, EncryptionAlgorithm
from torsh_package.crypto.formats import CANNOT_DECRYPT, FORMATS, STREAM_1M, StreamFormat
from torsh_package.crypto.kdf import SALT_BYTES, Argon2idParams, KdfParams, ScryptParams
from torsh_package.crypto.recipients import (
    COMMITMENT_BYTES,
    ENCAPSULATED_BYTES,
    WRAPPED_BYTES,
    Identity,
    PasswordStanza,
    Recipient,
    Stanza,
    X25519Stanza,
)
from torsh_package.errors import (
    DecryptionError,
    InvalidArgumentError,
    LimitError,
    ManifestError,
    UnsupportedVersionError,
)
from torsh_package.limits import DEFAULT_LIMITS, Limits
from torsh_package.schema import Fields

HEADER_ENTRY = "META/encryption.json"
MAX_HEADER_BYTES = 1 << 20
MAX_PASSWORDS = 4
"""Each password costs a reader a whole key derivation, so a header may not hold many."""

_FORMAT = "torshpkg-encryption"
_MAC_INFO = b"torshpkg/v1/header"
_ALGORITHMS = frozenset(algorithm.value for algorithm in EncryptionAlgorithm)


@dataclass(frozen=True)
class EncryptionHeader:
    """Who may open a package, and how its payload is encrypted.

    Args:
        algorithm: AEAD of every encrypted resource.
        manifest_digest: SHA-256 of the manifest's bytes.
        stanzas: The content key, wrapped once per recipient.
        mac: HMAC-SHA256 over all the rest, keyed by the content key.
        form: Form of the sealed resources; each has a schema of its own.
    """

    algorithm: EncryptionAlgorithm
    manifest_digest: bytes
    stanzas: tuple[Stanza, ...]
    mac: bytes
    form: StreamFormat = STREAM_1M

    @classmethod
    def create(
        cls,
        algorithm: EncryptionAlgorithm,
        content_key: bytes,
        manifest: bytes,
        recipients: Sequence[Recipient],
        limits: Limits = DEFAULT_LIMITS,
    ) -> "EncryptionHeader":
        """Wrap `content_key` for all `recipients` and bind it to the manifest's bytes."""
        stanzas = tuple(recipient.wrap(content_key, limits) for recipient in recipients)
        header = cls(algorithm, hashlib.sha256(manifest).digest(), stanzas, b"")
        return header._sealed(content_key, limits)

    def _sealed(self, content_key: bytes, limits: Limits) -> "EncryptionHeader":
        if not self.stanzas:
            raise InvalidArgumentError("no recipient is left: nobody could open the package")
        _check_counts(self.stanzas, limits)
        return replace(self, mac=self._mac(content_key))

    def _mac(self, content_key: bytes) -> bytes:
        key = HKDFExpand(SHA256(), 32, _MAC_INFO).derive(content_key)
        return hmac.digest(key, dumps(self._body()), "sha256")

    def _body(self) -> JsonObject:
        return {
            "format": _FORMAT,
            "schema": self.form.schema,
            "algorithm": self.algorithm.value,
            "manifest": self.manifest_digest.hex(),
            "recipients": [_stanza_json(stanza) for stanza in self.stanzas],
        }

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return dumps({**self._body(), "mac": self.mac.hex()})

    @classmethod
    def parse(cls, data: bytes, limits: Limits = DEFAULT_LIMITS) -> "EncryptionHeader":
        """Read a header; every cost in it is bounded before anything is derived.

        Raises:
            ManifestError: It is malformed.
            UnsupportedVersionError: A newer schema.
            LimitError: Too many recipients, or a key derivation over the limits.
        """
        text = loads(data, entry=HEADER_ENTRY, limit=MAX_HEADER_BYTES)
        fields = Fields(text, HEADER_ENTRY, limits)
        fields.choice("format", frozenset({_FORMAT}))
        schema = fields.integer("schema")
        if schema not in FORMATS:
            known = " and ".join(map(str, FORMATS))
            raise UnsupportedVersionError(
                f"encryption schema {schema}; this reader knows {known}", entry=HEADER_ENTRY
            )
        header = cls(
            algorithm=EncryptionAlgorithm(fields.choice("algorithm", _ALGORITHMS)),
            manifest_digest=fields.hexadecimal("manifest", 32),
            stanzas=fields.items("recipients", limits.recipients, _read_stanza),
            mac=fields.hexadecimal("mac", 32),
            form=FORMATS[schema],
        )
        fields.end()
        if not header.stanzas:
            raise ManifestError("has no recipient", entry=HEADER_ENTRY)
        _check_counts(header.stanzas, limits)
        return header

    def unlock(self, identities: Sequence[Identity], manifest: bytes) -> bytes:
        """The content key, once header and manifest are known to be authentic.

        Raises:
            DecryptionError: No identity opens it, or anything was changed; always the same text.
        """
        for identity in identities:
            for stanza in self.stanzas:
                key = identity.unwrap(stanza)
                if key is None or len(key) != KEY_BYTES:
                    continue
                digest = hashlib.sha256(manifest).digest()
                if hmac.compare_digest(self._mac(key), self.mac) and hmac.compare_digest(
                    digest, self.manifest_digest
                ):
                    return key
        raise DecryptionError(CANNOT_DECRYPT)

    def rewrap(
        self,
        content_key: bytes,
        *,
        add: Sequence[Recipient] = (),
        remove: Sequence[str] = (),
        limits: Limits = DEFAULT_LIMITS,
    ) -> "EncryptionHeader":
        """The header with other recipients; the payload stays as it is.

        Someone who was removed and kept the content key can still read the old payload: to shut
        them out of the content, encrypt anew.

        Args:
            content_key: From `unlock`.
            add: New recipients.
            remove: Beginnings of X25519 key ids, or `"password"` for all passwords.
            limits: Bounds that a later reader will put on the header.
        """
        for name in remove:
            if not any(_is_named(stanza, name) for stanza in self.stanzas):
                raise InvalidArgumentError(f"no recipient {name!r} to remove")
        kept = tuple(s for s in self.stanzas if not any(_is_named(s, name) for name in remove))
        new = tuple(recipient.wrap(content_key, limits) for recipient in add)
        return replace(self, stanzas=kept + new)._sealed(content_key, limits)

    def rebind(self, content_key: bytes, manifest: bytes) -> "EncryptionHeader":
        """The header for a changed manifest."""
        digest = hashlib.sha256(manifest).digest()
        return replace(self, manifest_digest=digest)._sealed(content_key, DEFAULT_LIMITS)


def _is_named(stanza: Stanza, name: str) -> bool:
    if isinstance(stanza, PasswordStanza):
        return name == "password"
    return len(name) >= 8 and stanza.key_id.startswith(name)


def _check_counts(stanzas: tuple[Stanza, ...], limits: Limits) -> None:
    if len(stanzas) > limits.recipients:
        raise LimitError(f"{len(stanzas)} recipients, limit {limits.recipients}")
    passwords = sum(isinstance(stanza, PasswordStanza) for stanza in stanzas)
    if passwords > MAX_PASSWORDS:
        raise LimitError(f"{passwords} passwords, limit {MAX_PASSWORDS}", entry=HEADER_ENTRY)


def _stanza_json(stanza: Stanza) -> JsonObject:
    if isinstance(stanza, X25519Stanza):
        return {"type": "x25519", "key": stanza.key_id, "wrapped": stanza.wrapped.hex()}
    costs: JsonObject
    if isinstance(stanza.params, Argon2idParams):
        params = stanza.params
        costs = {
            "memory_kib": params.memory_kib,
            "iterations": params.iterations,
            "lanes": params.lanes,
        }
    else:
        costs = {"n": stanza.params.n, "r": stanza.params.r, "p": stanza.params.p}
    return {
        "type": stanza.params.name,
        **costs,
        "salt": stanza.salt.hex(),
        "commitment": stanza.commitment.hex(),
        "wrapped": stanza.wrapped.hex(),
    }


def _read_stanza(fields: Fields) -> Stanza:
    kind = fields.choice("type", frozenset({"x25519", Argon2idParams.name, ScryptParams.name}))
    stanza: Stanza
    if kind == "x25519":
        stanza = X25519Stanza(
            key_id=fields.hexadecimal("key", 32).hex(),
            wrapped=fields.hexadecimal("wrapped", ENCAPSULATED_BYTES + WRAPPED_BYTES),
        )
    else:
        params = _read_params(kind, fields)
        params.check(fields.limits)
        stanza = PasswordStanza(
            params=params,
            salt=fields.hexadecimal("salt", SALT_BYTES),
            commitment=fields.hexadecimal("commitment", COMMITMENT_BYTES),
            wrapped=fields.hexadecimal("wrapped", WRAPPED_BYTES),
        )
    fields.end()
    return stanza


def _read_params(kind: str, fields: Fields) -> KdfParams:
    if kind == ScryptParams.name:
        return ScryptParams(n=fields.integer("n"), r=fields.integer("r"), p=fields.integer("p"))
    return Argon2idParams(
        memory_kib=fields.integer("memory_kib"),
        iterations=fields.integer("iterations"),
        lanes=fields.integer("lanes"),
    )
