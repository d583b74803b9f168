"""Dead Simple Signing Envelope v1 (https://github.com/secure-systems-lab/dsse).

A signature covers the pre-authentication encoding of payload type and payload bytes, so nothing
is re-serialised before it is verified. A key id in an envelope only selects which trusted key to
try; it proves nothing.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torsh_package.canonical_json import JsonObject, JsonValue, dumps, loads
from torsh_package.errors import LimitError, ManifestError, PackageError, SignatureError
from torsh_package.limits import DEFAULT_LIMITS, Limits
from torsh_package.schema import Fields
from torsh_package.trust.keys import PrivateKey, PublicKey

IN_TOTO = "application/vnd.in-toto+json"
SIGNATURES_ENTRY = "META/signatures.dsse.json"
MAX_SIGNATURES_BYTES = 4 << 20
MAX_SIGNATURE_BYTES = 8 * 1024


def pae(payload_type: str, payload: bytes) -> bytes:
    """Pre-authentication encoding, DSSE protocol section "Signature Definition"."""
    name = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


def encode_base64(data: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(data).decode()


def decode_base64(text: str, what: str) -> bytes:
    """The bytes of standard base64 in its one canonical spelling."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ManifestError(f"{what}: not standard base64") from None
    if encode_base64(data) != text:
        raise ManifestError(f"{what}: base64 is not canonical")
    return data


@dataclass(frozen=True)
class EnvelopeSignature:
    """One signature: the id of the key that is said to have made it, and its bytes."""

    key_id: str
    signature: bytes


@dataclass(frozen=True)
class Envelope:
    """A payload and the signatures over it."""

    payload_type: str
    payload: bytes
    signatures: tuple[EnvelopeSignature, ...] = ()

    def signed(self, key: PrivateKey) -> "Envelope":
        """The envelope with one more signature."""
        signature = key.sign(pae(self.payload_type, self.payload))
        made = EnvelopeSignature(key.public_key.key_id, signature)
        return replace(self, signatures=(*self.signatures, made))

    def is_signed_by(self, key: PublicKey) -> bool:
        """Whether one of the signatures under this key's id verifies with it."""
        data = pae(self.payload_type, self.payload)
        return any(
            s.key_id == key.key_id and key.verify(data, s.signature) for s in self.signatures
        )

    def to_json(self) -> JsonObject:
        """The JSON form of the DSSE specification."""
        return {
            "payload": encode_base64(self.payload),
            "payloadType": self.payload_type,
            "signatures": [
                {"keyid": s.key_id, "sig": encode_base64(s.signature)} for s in self.signatures
            ],
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> "Envelope":
        """Read the JSON form strictly."""
        envelope = cls(
            payload_type=fields.string("payloadType"),
            payload=_payload(fields),
            signatures=fields.items("signatures", fields.limits.signatures, _read_signature),
        )
        fields.end()
        return envelope


def _payload(fields: Fields) -> bytes:
    text = fields.take("payload")
    if not isinstance(text, str):
        raise fields.error("payload", "expected a string")
    return decode_base64(text, f"{fields.where}.payload")


def _read_signature(fields: Fields) -> EnvelopeSignature:
    signature = decode_base64(fields.string("sig"), f"{fields.where}.sig")
    if len(signature) > MAX_SIGNATURE_BYTES:
        raise LimitError(f"{fields.where}.sig: {len(signature)} bytes, limit {MAX_SIGNATURE_BYTES}")
    found = EnvelopeSignature(fields.string("keyid"), signature)
    fields.end()
    return found


def dump_envelopes(envelopes: Sequence[Envelope]) -> bytes:
    """The bytes of `META/signatures.dsse.json` and of a detached `.sig`: an array of envelopes."""
    values: list[JsonValue] = [envelope.to_json() for envelope in envelopes]
    return dumps(values)


def load_envelopes(data: bytes, limits: Limits = DEFAULT_LIMITS) -> tuple[Envelope, ...]:
    """Read an array of envelopes.

    Raises:
        SignatureError: Malformed, or more signatures than the limit.
    """
    try:
        text = loads(data, entry=SIGNATURES_ENTRY, limit=MAX_SIGNATURES_BYTES)
        fields = Fields({"envelopes": text}, SIGNATURES_ENTRY, limits)
        envelopes = fields.items("envelopes", limits.signatures, Envelope.from_fields)
        count = sum(len(envelope.signatures) for envelope in envelopes)
        if count > limits.signatures:
            raise LimitError(f"{count} signatures, limit {limits.signatures}")
    except PackageError as error:
        raise SignatureError(f"signatures are malformed: {error}", entry=SIGNATURES_ENTRY) from None
    return envelopes
