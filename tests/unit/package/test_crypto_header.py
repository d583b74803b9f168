"""Recipients, key derivation bounds and the authenticated header (rows 77, 80, 81, 83, 84)."""

import dataclasses
import json
import subprocess
import sys
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from torsh_package.canonical_json import dumps
from torsh_package.crypto.algorithms import EncryptionAlgorithm
from torsh_package.crypto.formats import CANNOT_DECRYPT
from torsh_package.crypto.header import MAX_PASSWORDS, EncryptionHeader
from torsh_package.crypto.kdf import Argon2idParams, ScryptParams
from torsh_package.crypto.recipients import (
    PasswordIdentity,
    PasswordRecipient,
    X25519Identity,
    X25519Recipient,
)
from torsh_package.errors import (
    DecryptionError,
    InvalidArgumentError,
    LimitError,
    ManifestError,
    PackageError,
    StorageError,
    UnsupportedVersionError,
)

AES = EncryptionAlgorithm.Aes256Gcm
KEY = bytes(range(32))
MANIFEST = b'{"name":"m"}'
CHEAP = Argon2idParams(memory_kib=8, iterations=1, lanes=1)
CHEAP_SCRYPT = ScryptParams(n=16)
ALICE, BOB, EVE = (X25519Identity.generate() for _ in range(3))


def make(*recipients) -> EncryptionHeader:
    return EncryptionHeader.create(AES, KEY, MANIFEST, recipients)


def reread(header: EncryptionHeader) -> EncryptionHeader:
    return EncryptionHeader.parse(header.to_bytes())


@pytest.mark.parametrize("params", [CHEAP, CHEAP_SCRYPT], ids=lambda p: p.name)
def test_every_recipient_opens_and_nobody_else(params):
    header = reread(make(PasswordRecipient("s3cret", params), ALICE.recipient, BOB.recipient))
    for identity in (PasswordIdentity("s3cret"), ALICE, BOB):
        assert header.unlock([EVE, identity], MANIFEST) == KEY
    for identity in (PasswordIdentity("other"), EVE):
        with pytest.raises(DecryptionError) as caught:
            header.unlock([identity], MANIFEST)
        assert str(caught.value) == CANNOT_DECRYPT


def test_a_password_is_the_same_in_both_unicode_forms():
    header = make(PasswordRecipient("caf\u00e9", CHEAP))
    assert header.unlock([PasswordIdentity("cafe\u0301")], MANIFEST) == KEY
    with pytest.raises(InvalidArgumentError, match="password is empty"):
        make(PasswordRecipient("", CHEAP))


def test_row_77_wrong_password_and_damage_read_the_same():
    header = make(PasswordRecipient("s3cret", CHEAP), ALICE.recipient)
    damaged = dataclasses.replace(header, mac=bytes(32))
    texts = set()
    for candidate, identity, manifest in [
        (header, PasswordIdentity("wrong"), MANIFEST),
        (damaged, PasswordIdentity("s3cret"), MANIFEST),
        (damaged, ALICE, MANIFEST),
        (header, PasswordIdentity("s3cret"), MANIFEST + b" "),
        (header, EVE, MANIFEST),
    ]:
        with pytest.raises(DecryptionError) as caught:
            candidate.unlock([identity], manifest)
        assert caught.value.__cause__ is None
        texts.add(str(caught.value))
    assert texts == {CANNOT_DECRYPT}


def test_every_bit_flip_of_the_header_is_refused():
    header = make(PasswordRecipient("s3cret", CHEAP_SCRYPT), ALICE.recipient)
    data = header.to_bytes()
    identities = [ALICE, PasswordIdentity("s3cret")]
    limits_met = 0
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PackageError) as caught:
            EncryptionHeader.parse(bytes(changed)).unlock(identities, MANIFEST)
        assert isinstance(caught.value, DecryptionError | ManifestError | LimitError)
        limits_met += isinstance(caught.value, LimitError)
    assert limits_met > 0  # some flips hit scrypt's costs, and are refused before any work


def test_the_form_of_the_payload_cannot_be_changed():
    """A header that gives the other form is not what was written, although it is well formed."""
    changed = EncryptionHeader.parse(_edited(schema=1))
    assert changed.form.chunk_bytes == 16 << 10
    with pytest.raises(DecryptionError) as caught:
        changed.unlock([ALICE], MANIFEST)
    assert str(caught.value) == CANNOT_DECRYPT


def test_row_80_swapped_recipient():
    header, other = make(ALICE.recipient), make(EVE.recipient)
    stanza = EVE.recipient.wrap(KEY)  # even with the right content key
    for stanzas in (other.stanzas, (stanza,), (*header.stanzas, stanza), ()):
        changed = dataclasses.replace(header, stanzas=stanzas)
        with pytest.raises(DecryptionError):
            changed.unlock([ALICE, EVE], MANIFEST)


def test_row_83_a_stanza_of_two_keys_commits_to_one():
    """A wrap whose ciphertext opens under another password is stopped by the commitment."""
    recipient = PasswordRecipient("one", CHEAP)
    stanza = recipient.wrap(KEY)
    two = dataclasses.replace(stanza, wrapped=PasswordRecipient("two", CHEAP).wrap(KEY).wrapped)
    assert PasswordIdentity("one").unwrap(stanza) == KEY
    assert PasswordIdentity("one").unwrap(two) is None
    assert PasswordIdentity("two").unwrap(two) is None


SMALL_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("share", SMALL_ORDER)
def test_row_84_small_order_shares(share: str):
    point = bytes.fromhex(share)
    with pytest.raises(InvalidArgumentError, match="small order"):
        X25519Recipient(X25519PublicKey.from_public_bytes(point)).wrap(KEY)
    stanza = ALICE.recipient.wrap(KEY)
    assert ALICE.unwrap(dataclasses.replace(stanza, wrapped=point + stanza.wrapped[32:])) is None


def _with_recipient(**changes) -> bytes:
    header = json.loads(make(PasswordRecipient("p", CHEAP)).to_bytes())
    header["recipients"][0] |= changes
    return dumps(header)


def _scrypt(**changes) -> bytes:
    header = json.loads(make(PasswordRecipient("p", CHEAP_SCRYPT)).to_bytes())
    header["recipients"][0] |= changes
    return dumps(header)


COSTS = {
    "argon2 1 TiB": (_with_recipient(memory_kib=1 << 30), "argon2id memory is 1073741824 KiB"),
    "argon2 2^40 iterations": (_with_recipient(iterations=1 << 40), "iterations is 1099511627776"),
    "argon2 no iterations": (_with_recipient(iterations=0), "iterations is 0"),
    "argon2 lanes": (_with_recipient(lanes=255), "lanes is 255"),
    "argon2 memory below lanes": (_with_recipient(memory_kib=1), "memory is 1 KiB"),
    "scrypt 2^40": (_scrypt(n=1 << 40), "scrypt n is 1099511627776"),
    "scrypt no power of two": (_scrypt(n=1000), "not a power of two"),
    "scrypt r": (_scrypt(r=1 << 20), "scrypt r is 1048576"),
    "scrypt p": (_scrypt(p=1 << 20), "scrypt p is 1048576"),
    "scrypt memory": (_scrypt(n=1 << 20, r=32), "scrypt memory is 4294967296 bytes"),
}


@pytest.mark.parametrize("case", COSTS)
def test_row_81_costs_are_refused_before_any_work(case: str):
    data, message = COSTS[case]
    start = time.process_time()
    with pytest.raises(LimitError, match=message):
        EncryptionHeader.parse(data)
    assert time.process_time() - start < 0.5


_LITTLE_MEMORY = """
import resource
from torsh_package.crypto.kdf import Argon2idParams, ScryptParams
from torsh_package.errors import LimitError
resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))
for params in (Argon2idParams(1 << 20, 1, 1), ScryptParams(n=1 << 20)):
    try:
        params.derive(b"x", bytes(16))
    except LimitError as error:
        print(error)
"""


def test_row_81_too_little_memory_is_an_error_like_others():
    run = subprocess.run(
        [sys.executable, "-c", _LITTLE_MEMORY], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines() == [
        "argon2id needs 1073741824 bytes of memory, more than this process may have",
        "scrypt needs 1073741824 bytes of memory, more than this process may have",
    ]


def _edited(**changes) -> bytes:
    header = json.loads(make(PasswordRecipient("p", CHEAP), ALICE.recipient).to_bytes())
    return dumps(header | changes)


MALFORMED = {
    "no recipient": (_edited(recipients=[]), ManifestError, "no recipient"),
    "unknown recipient type": (
        _edited(recipients=[{"type": "rsa"}]),
        ManifestError,
        "'rsa' is unknown",
    ),
    "unknown algorithm": (_edited(algorithm="none"), ManifestError, "'none' is unknown"),
    "schema 3": (_edited(schema=3), UnsupportedVersionError, "schema 3; .* knows 1 and 2"),
    "schema 0": (_edited(schema=0), UnsupportedVersionError, "schema 0"),
    "unknown field": (_edited(extra=1), ManifestError, "unknown field 'extra'"),
    "short mac": (_edited(mac="00"), ManifestError, "mac: expected 32 bytes"),
    "upper-case hex": (_edited(manifest="AB" * 32), ManifestError, "lower-case"),
    "not an object": (b"[]", ManifestError, "expected an object"),
    "empty": (b"", ManifestError, "not JSON"),
    "not canonical": (b" {}", ManifestError, "canonical"),
    "huge": (b" " * (2 << 20), LimitError, "limit 1048576"),
    "many recipients": (
        _edited(recipients=[json.loads(make(ALICE.recipient).to_bytes())["recipients"][0]] * 257),
        LimitError,
        "257 items, limit 256",
    ),
    "many passwords": (
        _edited(
            recipients=[json.loads(make(PasswordRecipient("p", CHEAP)).to_bytes())["recipients"][0]]
            * (MAX_PASSWORDS + 1)
        ),
        LimitError,
        "5 passwords, limit 4",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_headers(case: str):
    data, error, message = MALFORMED[case]
    with pytest.raises(error, match=message):
        EncryptionHeader.parse(data)


def test_recipients_change_without_the_content_key_changing():
    header = make(PasswordRecipient("old", CHEAP), ALICE.recipient)
    key = header.unlock([ALICE], MANIFEST)
    changed = reread(
        header.rewrap(
            key,
            add=[BOB.recipient, PasswordRecipient("new", CHEAP)],
            remove=["password", ALICE.recipient.key_id[:16]],
        )
    )
    assert changed.unlock([BOB], MANIFEST) == changed.unlock([PasswordIdentity("new")], MANIFEST)
    for identity in (PasswordIdentity("old"), ALICE):
        with pytest.raises(DecryptionError):
            changed.unlock([identity], MANIFEST)
    with pytest.raises(InvalidArgumentError, match="no recipient"):
        changed.rewrap(key, remove=["password", BOB.recipient.key_id])
    with pytest.raises(InvalidArgumentError, match="no recipient 'deadbeef' to remove"):
        changed.rewrap(key, remove=["deadbeef"])


def test_no_secret_in_any_representation():
    recipient, identity = PasswordRecipient("s3cret", CHEAP), PasswordIdentity("s3cret")
    assert "s3cret" not in repr([recipient, identity])
    assert "private" not in repr(ALICE)


def test_key_files(tmp_path):
    path = tmp_path / "alice"
    ALICE.save(path, passphrase="open sesame")
    assert path.stat().st_mode & 0o777 == 0o600
    header = make(X25519Recipient.load(tmp_path / "alice.pub"))
    assert header.unlock([X25519Identity.load(path, "open sesame")], MANIFEST) == KEY
    for passphrase, message in [(None, "give its passphrase"), ("wrong", "passphrase is wrong")]:
        with pytest.raises(DecryptionError, match=message) as caught:
            X25519Identity.load(path, passphrase)
        assert "wrong'" not in str(caught.value)
    with pytest.raises(StorageError, match="never overwritten"):
        ALICE.save(path)
    with pytest.raises(InvalidArgumentError, match="no PEM private key"):
        X25519Identity.load(tmp_path / "alice.pub")
    with pytest.raises(StorageError, match="No such file"):
        X25519Identity.load(tmp_path / "missing")
