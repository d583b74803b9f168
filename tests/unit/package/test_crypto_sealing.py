"""Sealing of resources: what they are bound to, and that their size costs no memory."""

import dataclasses
from typing import Any

import pytest

from torsh_package.codecs import CodecSpec
from torsh_package.crypto import (
    Argon2idParams,
    EncryptionAlgorithm,
    PackageSealer,
    PasswordRecipient,
    X25519Identity,
    opener,
)
from torsh_package.crypto.formats import CANNOT_DECRYPT
from torsh_package.errors import DecryptionError, InvalidArgumentError
from torsh_package.protocols import SealContext

MANIFEST = b'{"name":"m"}'
CHEAP = Argon2idParams(memory_kib=8, iterations=1, lanes=1)
DATA = bytes(i * 7 % 251 for i in range(100_000))
CONTEXT = SealContext("weights", "ModelWeights", False, "application/octet-stream", None, len(DATA))
ALICE = X25519Identity.generate()


def make(algorithm=EncryptionAlgorithm.Aes256Gcm) -> PackageSealer:
    return PackageSealer(algorithm, [PasswordRecipient("p", CHEAP), ALICE.recipient])


def seal(sealer: PackageSealer, context: SealContext = CONTEXT) -> memoryview:
    return memoryview(b"".join(sealer.seal(context, sealer.record(context), [DATA])))


@pytest.mark.parametrize("algorithm", EncryptionAlgorithm)
def test_sealed_resources_open_again(algorithm):
    sealer = make(algorithm)
    header, stored = sealer.header(MANIFEST), seal(sealer)
    record = sealer.record(CONTEXT)
    assert DATA[:1000] not in bytes(stored)
    opening: list[dict[str, Any]] = [{"password": "p"}, {"identities": [ALICE]}]
    for keys in opening:
        opened = opener(header, MANIFEST, **keys)
        assert b"".join(opened.open(CONTEXT, record, stored)) == DATA
        assert opened.reader(CONTEXT, record, stored).read_at(70_000, 5) == DATA[70_000:70_005]
    with pytest.raises(DecryptionError) as caught:
        opener(header, MANIFEST, password="q")
    assert str(caught.value) == CANNOT_DECRYPT


CODEC = CodecSpec("zstd", 3)
MOVED = {
    "79 another resource": {"name": "other"},
    "another type": {"type": "Config"},
    "a document": {"document": True},
    "another media type": {"media_type": "text/plain"},
    "another codec": {"codec": CODEC},
    "another plain size": {"plain_size": 7},
}


@pytest.mark.parametrize("case", MOVED)
def test_a_resource_opens_only_where_it_was_sealed(case: str):
    sealer = make()
    opened = opener(sealer.header(MANIFEST), MANIFEST, identities=[ALICE])
    moved = dataclasses.replace(CONTEXT, **MOVED[case])
    with pytest.raises(DecryptionError) as caught:
        list(opened.open(moved, sealer.record(moved), seal(sealer)))
    assert str(caught.value) == f"{moved.name}: {CANNOT_DECRYPT}"


def test_82_the_record_of_the_other_algorithm():
    sealer = make()
    opened = opener(sealer.header(MANIFEST), MANIFEST, identities=[ALICE])
    other = make(EncryptionAlgorithm.ChaCha20Poly1305).record(CONTEXT)
    with pytest.raises(DecryptionError, match="wrong"):
        list(opened.open(CONTEXT, other, seal(sealer)))
    with pytest.raises(InvalidArgumentError, match="another sealer"):
        list(sealer.seal(CONTEXT, other, [DATA]))


def test_79_the_same_password_gives_other_keys():
    one, two = make(), make()
    opened = opener(two.header(MANIFEST), MANIFEST, password="p")
    with pytest.raises(DecryptionError):
        list(opened.open(CONTEXT, two.record(CONTEXT), seal(one)))


def test_sealing_twice_shares_no_ciphertext():
    sealer = make()
    one, two = bytes(seal(sealer)), bytes(seal(sealer))
    blocks = {one[i : i + 16] for i in range(0, len(one), 16)}
    assert not blocks & {two[i : i + 16] for i in range(0, len(two), 16)}


def test_large_pieces_are_cut():
    sealer = make()
    context = dataclasses.replace(CONTEXT, plain_size=20 << 20)
    pieces = list(sealer.seal(context, sealer.record(context), [bytes(20 << 20)]))
    assert max(map(len, pieces)) == (1 << 20) + 16


def test_nobody_is_refused():
    with pytest.raises(InvalidArgumentError, match="no recipient"):
        PackageSealer(EncryptionAlgorithm.Aes256Gcm, [])
