"""Keys, envelopes and statements: published vectors, another implementation, malleability."""

import base64
import copy
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from securesystemslib.dsse import Envelope as OtherEnvelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, Key, SSlibKey  # pyright: ignore[reportPrivateImportUsage]

from torsh_package.canonical_json import dumps
from torsh_package.errors import InvalidArgumentError, SignatureError
from torsh_package.trust.dsse import (
    IN_TOTO,
    Envelope,
    EnvelopeSignature,
    dump_envelopes,
    load_envelopes,
    pae,
)
from torsh_package.trust.keys import PrivateKey, PublicKey, SignatureAlgorithm
from torsh_package.trust.signer import PackageSigner, join_signatures
from torsh_package.trust.statement import PackageClaim, Statement

VECTORS = Path(cryptography_vectors.__file__).parent / "asymmetric"
MANIFEST = dumps({"name": "acme/m", "version": "1.0.0"})


def other_key(key: PublicKey) -> SSlibKey:
    """The key as securesystemslib holds it."""
    if key.algorithm is SignatureAlgorithm.Ed25519:
        raw = key._key.public_bytes_raw().hex()  # type: ignore[union-attr]
        value = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": raw}}
    else:
        pem = {"public": key.pem.decode()}
        value = {"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": pem}
    return Key.from_dict(key.key_id, value)  # type: ignore[return-value]


def other_verify(envelope: Envelope, keys: list[PublicKey], threshold: int) -> int:
    found = OtherEnvelope.from_dict(copy.deepcopy(envelope.to_json()))  # it changes its input
    return len(found.verify([other_key(key) for key in keys], threshold))


def test_pae_of_the_specification():
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("\u00e9", b"") == b"DSSEv1 2 \xc3\xa9 0 "


@pytest.mark.parametrize(
    "algorithm", [SignatureAlgorithm.Ed25519, SignatureAlgorithm.EcdsaP256], ids=lambda a: a.name
)
def test_another_implementation_verifies_what_we_sign(algorithm):
    keys = [PrivateKey.generate(algorithm) for _ in range(3)]
    public = [key.public_key for key in keys]
    envelope = Envelope(IN_TOTO, b'{"a":1}').signed(keys[0]).signed(keys[1])
    assert other_verify(envelope, public, 2) == 2
    with pytest.raises(VerificationError, match="Expected 3"):
        other_verify(envelope, public, 3)
    assert [envelope.is_signed_by(key) for key in public] == [True, True, False]


def test_we_verify_what_another_implementation_signs():
    signer = CryptoSigner.generate_ed25519()
    raw = bytes.fromhex(signer.public_key.to_dict()["keyval"]["public"])
    key = PublicKey.of(ed25519.Ed25519PublicKey.from_public_bytes(raw))
    signer.public_key.keyid = key.key_id
    other = OtherEnvelope(b'{"a":1}', IN_TOTO, {})
    other.sign(signer)
    (envelope,) = load_envelopes(dumps([other.to_dict()]))
    assert envelope.is_signed_by(key)
    assert envelope.payload == b'{"a":1}'


def test_ed25519_vectors():
    lines = (VECTORS / "Ed25519" / "sign.input").read_text().splitlines()
    assert len(lines) == 1024
    for line in lines[::16]:
        seed, point, message, signed = (bytes.fromhex(part) for part in line.split(":")[:4])
        private = PrivateKey.of(ed25519.Ed25519PrivateKey.from_private_bytes(seed[:32]))
        key = PublicKey.of(ed25519.Ed25519PublicKey.from_public_bytes(point))
        signature = signed[: len(signed) - len(message)]
        assert private.public_key == key
        assert private.sign(message) == signature
        assert key.verify(message, signature)
        assert not key.verify(message + b"x", signature)


L = (1 << 252) + 27742317777372353535851937790883648493
SIGNER = PackageSigner()
GOOD = SIGNER.public_key, b"message", SIGNER.private_key.sign(b"message")


def _non_canonical_s(signature: bytes) -> bytes:
    s = int.from_bytes(signature[32:], "little") + L
    return signature[:32] + s.to_bytes(32, "little")


MALLEABLE = {
    "S plus the group order": _non_canonical_s(GOOD[2]),
    "63 bytes": GOOD[2][:-1],
    "65 bytes": GOOD[2] + b"\0",
    "empty": b"",
    "R of small order": bytes([1]) + bytes(31) + GOOD[2][32:],
    "S of zero": GOOD[2][:32] + bytes(32),
    "high bit of S": GOOD[2][:-1] + bytes([GOOD[2][-1] | 0x80]),
}


@pytest.mark.parametrize("case", MALLEABLE)
def test_row_72_malleable_signatures(case: str):
    key, message, signature = GOOD
    assert key.verify(message, signature)
    assert not key.verify(message, MALLEABLE[case])


def test_every_bit_flip_of_a_signature():
    key, message, signature = GOOD
    for bit in range(512):
        changed = bytearray(signature)
        changed[bit // 8] ^= 1 << bit % 8
        assert not key.verify(message, bytes(changed))


SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_row_72_weak_keys_are_not_taken(point: str):
    weak = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(point))
    with pytest.raises(InvalidArgumentError, match="weak or malformed"):
        PublicKey.of(weak)


def test_a_weak_key_would_verify_a_forgery():
    """Why they are refused: OpenSSL takes the neutral point as key, and this as its signature."""
    weak = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(SMALL_ORDER[0]))
    weak.verify(bytes.fromhex(SMALL_ORDER[0]) + bytes(32), b"anything")


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        x25519.X25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP384R1()),
    ],
    ids=lambda key: type(key).__name__,
)
def test_other_kinds_of_keys_are_refused(key):
    with pytest.raises(InvalidArgumentError):
        PublicKey.of(key.public_key())
    with pytest.raises(InvalidArgumentError):
        PrivateKey.of(key)


@pytest.mark.parametrize("algorithm", SignatureAlgorithm)
def test_key_files_round_trip(algorithm, tmp_path):
    key = PrivateKey.generate(algorithm)
    key.save(tmp_path / "k", passphrase="p")
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    again = PrivateKey.load(tmp_path / "k", "p")
    public = PublicKey.load(tmp_path / "k.pub")
    assert public.verify(b"x", again.sign(b"x"))
    assert public == again.public_key == PublicKey.from_spki(public.spki)
    assert "PRIVATE" not in repr(again)


@pytest.mark.parametrize("algorithm", SignatureAlgorithm)
def test_encrypted_keys_are_read_by_openssl(algorithm, tmp_path):
    """PBES2 with scrypt, decrypted by the openssl program (which may not know ML-DSA yet)."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    key = PrivateKey.generate(algorithm)
    key.save(tmp_path / "k", passphrase="p\u00e4ss")
    decrypt = [openssl, "pkcs8", "-in", str(tmp_path / "k"), "-passin", "pass:p\u00e4ss"]
    listed = subprocess.run(
        [openssl, "asn1parse", "-in", str(tmp_path / "k")], capture_output=True, check=True
    )
    assert b":PBES2" in listed.stdout
    assert b"scrypt" in listed.stdout
    assert b":aes-256-cbc" in listed.stdout
    if algorithm is SignatureAlgorithm.MlDsa65:
        return
    plain = subprocess.run(decrypt, capture_output=True, check=True)
    (tmp_path / "plain").write_bytes(plain.stdout)
    assert PrivateKey.load(tmp_path / "plain").public_key == key.public_key


ENVELOPE = SIGNER.sign(MANIFEST).envelope


def _edited(**changes) -> bytes:
    return dumps([ENVELOPE.to_json() | changes])


def _signature(**changes) -> bytes:
    envelope: Any = ENVELOPE.to_json()
    (signature,) = envelope["signatures"]
    return _edited(signatures=[signature | changes])


def _many(count: int, signatures: list[Any]) -> bytes:
    return dumps([ENVELOPE.to_json() | {"signatures": signatures}] * count)


SIG = base64.b64encode(ENVELOPE.signatures[0].signature).decode()
MALFORMED = {
    "row 73: white space": (_signature(sig=SIG[:10] + "\n" + SIG[10:]), "base64"),
    "row 73: url-safe alphabet": (_signature(sig="-_-_"), "base64"),
    "row 73: no padding": (_signature(sig=SIG.rstrip("=")), "base64"),
    "row 73: extra padding": (_signature(sig=SIG + "===="), "base64"),
    "row 73: spare bits": (_signature(sig="AB=="), "not canonical"),
    "row 73: garbage": (_signature(sig="\u2603"), "base64"),
    "row 73: payload": (_edited(payload="e30"), "base64"),
    "row 74: 1e5 signatures": (
        _edited(signatures=[{"keyid": "k", "sig": "AA=="}] * 100_000),
        "limit",
    ),
    "row 74: 65 signatures": (
        _edited(signatures=[{"keyid": "k", "sig": "AA=="}] * 65),
        "65 items, limit 64",
    ),
    "row 74: 13 envelopes of 5": (
        _many(13, [{"keyid": "k", "sig": "AA=="}] * 5),
        "65 signatures, limit 64",
    ),
    "huge signature": (_signature(sig=base64.b64encode(bytes(9000)).decode()), "limit 8192"),
    "no array": (dumps(ENVELOPE.to_json()), "expected an array"),
    "missing payload": (dumps([{"payloadType": IN_TOTO, "signatures": []}]), "payload: is missing"),
    "unknown field": (_edited(extra=1), "unknown field 'extra'"),
    "duplicate key": (b'[{"payload":"","payload":"","payloadType":"","signatures":[]}]', "duplic"),
    "trailing bytes": (dump_envelopes([ENVELOPE]) + b"\n", "canonical"),
    "empty file": (b"", "not JSON"),
    "not UTF-8": (b"\xff\xfe", "UTF-8"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_signature_files(case: str):
    data, message = MALFORMED[case]
    with pytest.raises(SignatureError, match=message) as caught:
        load_envelopes(data)
    assert caught.value.entry == "META/signatures.dsse.json"


def test_signature_object_of_the_guide():
    signature = SIGNER.sign(MANIFEST)
    assert signature.algorithm is SignatureAlgorithm.Ed25519
    assert signature.key_id == SIGNER.public_key.key_id
    assert signature.timestamp.tzinfo is not None
    statement = Statement.parse(signature.envelope.payload)
    assert statement.subjects[0].name == "acme/m"
    assert PackageClaim.from_json(statement.predicate) == signature.claim
    text = json.loads(signature.envelope.payload)
    assert text["_type"] == "https://in-toto.io/Statement/v1"
    assert set(text["subject"][0]["digest"]) == {"sha256"}


def test_signatures_join_without_repetition():
    one, two = SIGNER.sign(MANIFEST), PackageSigner().sign(MANIFEST)
    joined = join_signatures(one, None, two.to_bytes(), one)
    assert load_envelopes(joined) == (one.envelope, two.envelope)


def test_the_same_input_gives_the_same_signature(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    assert SIGNER.sign(MANIFEST).to_bytes() == SIGNER.sign(MANIFEST).to_bytes()
    assert SIGNER.sign(MANIFEST).timestamp.isoformat() == "2026-01-01T00:00:00+00:00"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    with pytest.raises(InvalidArgumentError, match="'soon'"):
        SIGNER.sign(MANIFEST)


def test_an_envelope_counts_a_key_once_under_its_own_id_only():
    signature = ENVELOPE.signatures[0]
    renamed = EnvelopeSignature("0" * 64, signature.signature)
    assert not Envelope(IN_TOTO, ENVELOPE.payload, (renamed,)).is_signed_by(SIGNER.public_key)
