"""Every parser of this area against mutated and random input: a `PackageError` or a result."""

import contextlib
import datetime as dt
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torsh_package import (
    EncryptionAlgorithm,
    LineageRelation,
    LineageTracker,
    PackageSigner,
    ProvenanceInfo,
)
from torsh_package.canonical_json import dumps, loads
from torsh_package.crypto.header import EncryptionHeader
from torsh_package.crypto.kdf import ScryptParams
from torsh_package.crypto.recipients import PasswordRecipient, X25519Identity
from torsh_package.errors import PackageError
from torsh_package.governance import AuditRecord, GovernancePolicy
from torsh_package.governance.policy import license_allowed
from torsh_package.lineage import BuildProvenance, EqualityVerdict, Source
from torsh_package.trust import RootPolicy, TrustStore
from torsh_package.trust.dsse import dump_envelopes, load_envelopes
from torsh_package.trust.statement import PackageClaim, Statement

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
SIGNER = PackageSigner()
DIGEST = "sha256:" + "ab" * 32


def _header() -> bytes:
    recipients = [X25519Identity.generate().recipient, PasswordRecipient("p", ScryptParams(n=16))]
    algorithm = EncryptionAlgorithm.Aes256Gcm
    return EncryptionHeader.create(algorithm, bytes(32), b"{}", recipients).to_bytes()


def _tracker() -> bytes:
    tracker = LineageTracker()
    tracker.add_lineage("a", DIGEST, LineageRelation.TrainedOn, "x")
    tracker.identify("b", DIGEST)
    tracker.record_provenance(ProvenanceInfo("b", "me", NOW, "u", "c", {"k": "v"}, "d"))
    return tracker.to_bytes()


def _store() -> bytes:
    store = SIGNER.store().revoke(SIGNER.public_key.key_id, since=NOW)
    return store.with_root(RootPolicy((SIGNER.public_key.key_id,))).to_bytes()


BUILD = BuildProvenance(
    "convert",
    (Source("m", DIGEST, "https://x"),),
    {"a": "b"},
    {"torch": "2"},
    NOW,
    NOW,
    EqualityVerdict(True, 1, 0, 0.0, 1e-5, "torch"),
)
_CLAIM = PackageClaim("m", "1.0.0", 3, NOW, NOW, NOW, 5)
_RECORD = AuditRecord(0, "t", "load", "me", "m", "ok", {"k": "v"}, "0" * 64, "1" * 64)


def _json(data: bytes):
    return loads(data, entry="fuzz", limit=1 << 20)


# what is written, and what reads it and writes it again
PARSERS: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "encryption header": (_header(), lambda d: EncryptionHeader.parse(d).to_bytes()),
    "envelopes": (SIGNER.sign(b"x").to_bytes(), lambda d: dump_envelopes(load_envelopes(d))),
    "statement": (_CLAIM.statement(b"x").to_bytes(), lambda d: Statement.parse(d).to_bytes()),
    "claim": (dumps(_CLAIM.to_json()), lambda d: dumps(PackageClaim.from_json(_json(d)).to_json())),
    "provenance": (
        dumps(BUILD.to_json()),
        lambda d: dumps(BuildProvenance.from_json(_json(d)).to_json()),
    ),
    "trust store": (_store(), lambda d: TrustStore.parse(d).to_bytes()),
    "lineage": (_tracker(), lambda d: LineageTracker.parse(d).to_bytes()),
    "policy": (
        GovernancePolicy(allowed_licenses=("MIT",)).to_bytes(),
        lambda d: GovernancePolicy.parse(d).to_bytes(),
    ),
    "audit record": (_RECORD.line()[:-1], lambda d: AuditRecord.parse(d).line()[:-1]),
}


@pytest.mark.parametrize("name", PARSERS)
def test_mutations(name: str):
    written, again = PARSERS[name]
    assert again(written) == written
    generator = random.Random(name)
    tokens = [b"null", b"-1", b"1e9", b'"', b"[]", b"{}", b"9" * 30, b"\\u0000", b"\xff", b"true"]
    for _ in range(400):
        data = bytearray(written)
        for _ in range(generator.randint(1, 3)):
            at = generator.randrange(len(data))
            match generator.randrange(4):
                case 0:
                    data[at] = generator.randrange(256)
                case 1:
                    del data[at : at + generator.randint(1, 40)]
                case 2:
                    data[at:at] = generator.choice(tokens)
                case _:
                    end = data.find(b",", at)
                    data[at : end if end > 0 else None] = generator.choice(tokens)
            data = data or bytearray(b"x")
        with contextlib.suppress(PackageError):
            again(bytes(data))


WEIRD = [
    None,
    True,
    -1,
    0,
    (1 << 53) - 1,
    "",
    "x",
    "ab" * 32,
    "2026-13-45T99:99:99Z",
    "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
    "nan",
    "\u202e",
    [],
    [[]],
    {},
    {"x": {}},
]


def _nodes(value, found: list) -> list:
    """All (container, key) pairs of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in items if isinstance(value, dict | list) else ():
        found.append((value, key))
        if isinstance(child, dict | list):
            _nodes(child, found)
    return found


@pytest.mark.parametrize("name", PARSERS)
def test_well_formed_json_of_the_wrong_shape(name: str):
    """Every field of every object, replaced by every weird value, and removed."""
    written, again = PARSERS[name]
    refused = 0
    for index in range(len(_nodes(_json(written), []))):
        for weird in [*WEIRD, "remove"]:
            value = _json(written)
            container, key = _nodes(value, [])[index]
            if weird == "remove":
                del container[key]
            else:
                container[key] = weird
            try:
                again(dumps(value))
            except PackageError:
                refused += 1
    assert refused > 50


@pytest.mark.parametrize("name", PARSERS)
def test_truncations(name: str):
    written, again = PARSERS[name]
    for size in range(len(written)):
        with pytest.raises(PackageError):
            again(written[:size])


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes(data: bytes):
    for _, again in PARSERS.values():
        with contextlib.suppress(PackageError):
            again(data)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="() ANDORWITHMIT-+.x\n", max_size=60))
def test_random_license_expressions(text: str):
    assert license_allowed(text, ("MIT",)) in (True, False)
