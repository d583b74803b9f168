"""Trust decisions: rows 63-71, 75 and 76 of the hostile inputs, each told apart by its status."""

import dataclasses
import datetime as dt
import json

import pytest

from torsh_package.canonical_json import dumps
from torsh_package.errors import InvalidArgumentError, ManifestError, SignatureError
from torsh_package.trust.dsse import Envelope, EnvelopeSignature, dump_envelopes, load_envelopes
from torsh_package.trust.keys import PrivateKey, PublicKey, SignatureAlgorithm
from torsh_package.trust.policy import Revocation, RevocationReason, Role, RootPolicy, matches
from torsh_package.trust.report import TrustReport, TrustStatus, UntrustedError
from torsh_package.trust.signer import PackageSigner, join_signatures
from torsh_package.trust.statement import PACKAGE_PREDICATE, Statement, Subject
from torsh_package.trust.store import TrustStore

S = TrustStatus
ALICE, BOB, CAROL, EVE = (PackageSigner() for _ in range(4))
NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def manifest(name: str = "acme/m", version: str = "1.0.0", **more) -> bytes:
    return dumps({"name": name, "version": version, **more})


M = manifest()
STORE = TrustStore.trusting([ALICE.public_key, BOB.public_key], packages=["acme/*"])
TWO = TrustStore.trusting(
    [ALICE.public_key, BOB.public_key, CAROL.public_key], threshold=2, packages=["acme/*"]
)


def sign(signer: PackageSigner, data: bytes = M, **claim) -> bytes:
    return signer.sign(data, issued=claim.pop("issued", NOW), **claim).to_bytes()


def judge(store: TrustStore, signatures: bytes | None, data: bytes = M, at=NOW) -> TrustReport:
    return store.evaluate(data, signatures, at)


def edit(signatures: bytes, /, **changes) -> bytes:
    (envelope,) = load_envelopes(signatures)
    return dump_envelopes([dataclasses.replace(envelope, **changes)])


def relabel(signatures: bytes, key: PublicKey) -> bytes:
    (envelope,) = load_envelopes(signatures)
    (signature,) = envelope.signatures
    return edit(signatures, signatures=(EnvelopeSignature(key.key_id, signature.signature),))


def resign(signer: PackageSigner, statement: Statement) -> bytes:
    return dump_envelopes([statement.envelope().signed(signer.private_key)])


def _twice(signatures: bytes) -> bytes:
    (envelope,) = load_envelopes(signatures)
    return dump_envelopes([envelope, envelope])


ALICE_SIGNED = sign(ALICE)
_ENVELOPE = load_envelopes(ALICE_SIGNED)[0]
_OTHER_PREDICATE = Statement(
    (Subject("acme/m", Statement.parse(_ENVELOPE.payload).subjects[0].sha256),),
    "https://slsa.dev/provenance/v1",
    {},
)
_BAD_PREDICATE = dataclasses.replace(_OTHER_PREDICATE, predicate_type=PACKAGE_PREDICATE)
_LATER = STORE.with_role(Role("publisher", ("acme/*",), (ALICE.public_key.key_id,), min_sequence=5))

CASES: dict[str, tuple[TrustStatus, TrustStore, bytes | None, bytes]] = {
    "trusted": (S.TRUSTED, STORE, ALICE_SIGNED, M),
    "trusted by two": (S.TRUSTED, TWO, join_signatures(ALICE_SIGNED, sign(BOB)), M),
    "a stranger's signature beside": (
        S.TRUSTED,
        STORE,
        join_signatures(sign(EVE), ALICE_SIGNED),
        M,
    ),
    "63 stripped": (S.STRIPPED, STORE, None, M),
    "63 stripped to an empty list": (S.STRIPPED, STORE, b"[]", M),
    "63 stripped to an attestation": (S.STRIPPED, STORE, resign(ALICE, _OTHER_PREDICATE), M),
    "unsigned, no role asks for it": (
        S.UNSIGNED,
        STORE,
        None,
        manifest("private"),
    ),
    "one of two stripped": (S.THRESHOLD, TWO, ALICE_SIGNED, M),
    "64 payload type changed": (
        S.DOWNGRADED,
        STORE,
        edit(ALICE_SIGNED, payload_type="application/json"),
        M,
    ),
    "64 algorithm none": (
        S.INVALID,
        STORE,
        edit(ALICE_SIGNED, signatures=(EnvelopeSignature(ALICE.public_key.key_id, b""),)),
        M,
    ),
    "64 other predicate in a package signature": (
        S.DOWNGRADED,
        STORE,
        resign(ALICE, _BAD_PREDICATE),
        M,
    ),
    "65 id of another key": (S.INVALID, STORE, relabel(sign(EVE), ALICE.public_key), M),
    "65 trusted signature under an unknown id": (
        S.UNKNOWN_SIGNER,
        STORE,
        relabel(ALICE_SIGNED, EVE.public_key),
        M,
    ),
    "66 same signature twice": (S.THRESHOLD, TWO, _twice(ALICE_SIGNED), M),
    "66 same key, two signatures": (
        S.THRESHOLD,
        TWO,
        join_signatures(ALICE_SIGNED, sign(ALICE, sequence=1)),
        M,
    ),
    "66 same key under two ids": (
        S.THRESHOLD,
        TWO,
        join_signatures(ALICE_SIGNED, relabel(ALICE_SIGNED, EVE.public_key)),
        M,
    ),
    "67 expired": (S.EXPIRED, STORE, sign(ALICE, issued=NOW - 9 * DAY, expires=NOW - DAY), M),
    "67 not yet valid": (S.NOT_YET_VALID, STORE, sign(ALICE, not_before=NOW + DAY), M),
    "67 issued in the future": (S.NOT_YET_VALID, STORE, sign(ALICE, issued=NOW + DAY), M),
    "67 within the clock skew": (
        S.TRUSTED,
        STORE,
        sign(ALICE, issued=NOW + dt.timedelta(minutes=4)),
        M,
    ),
    "67 role expired": (
        S.EXPIRED,
        STORE.with_role(dataclasses.replace(STORE.roles[0], expires=NOW - DAY)),
        ALICE_SIGNED,
        M,
    ),
    "67 role not started": (
        S.NOT_YET_VALID,
        STORE.with_role(dataclasses.replace(STORE.roles[0], not_before=NOW + DAY)),
        ALICE_SIGNED,
        M,
    ),
    "67 store expired": (
        S.STORE_EXPIRED,
        dataclasses.replace(STORE, expires=NOW - DAY),
        ALICE_SIGNED,
        M,
    ),
    "68 revoked": (
        S.REVOKED,
        STORE.revoke(ALICE.public_key.key_id, since=NOW + DAY),
        ALICE_SIGNED,
        M,
    ),
    "68 superseded before": (
        S.REVOKED,
        STORE.revoke(ALICE.public_key.key_id, since=NOW - DAY, reason=RevocationReason.SUPERSEDED),
        ALICE_SIGNED,
        M,
    ),
    "68 superseded later": (
        S.TRUSTED,
        STORE.revoke(ALICE.public_key.key_id, since=NOW + DAY, reason=RevocationReason.SUPERSEDED),
        ALICE_SIGNED,
        M,
    ),
    "68 revoked, the other still counts": (
        S.TRUSTED,
        STORE.revoke(ALICE.public_key.key_id),
        join_signatures(ALICE_SIGNED, sign(BOB)),
        M,
    ),
    "69 signature of another package": (
        S.WRONG_SUBJECT,
        STORE,
        sign(ALICE, manifest("acme/other")),
        M,
    ),
    "70 older release": (S.REPLAYED, _LATER, sign(ALICE, sequence=4), M),
    "70 no sequence": (S.REPLAYED, _LATER, ALICE_SIGNED, M),
    "70 sequence zero": (S.REPLAYED, _LATER, sign(ALICE, sequence=0), M),
    "70 current release": (S.TRUSTED, _LATER, sign(ALICE, sequence=5), M),
    "71 manifest changed": (S.WRONG_SUBJECT, STORE, ALICE_SIGNED, manifest(description="x")),
    "re-signed by a stranger": (S.UNKNOWN_SIGNER, STORE, sign(EVE), M),
    "76 not for this name": (
        S.NOT_AUTHORISED,
        STORE.with_role(
            Role("other", ("other/*",), (CAROL.public_key.key_id,)), [CAROL.public_key]
        ),
        sign(CAROL),
        M,
    ),
    "76 acme/* does not cover acme/x/y": (
        S.NOT_AUTHORISED,
        STORE,
        sign(ALICE, manifest("acme/x/y")),
        manifest("acme/x/y"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_cases(case: str):
    status, store, signatures, data = CASES[case]
    report = judge(store, signatures, data)
    assert report.status is status, report
    assert report.trusted == (status is S.TRUSTED)
    if report.trusted:
        assert report.require() is report
        assert report.counted >= report.threshold >= 1
        return
    with pytest.raises(UntrustedError) as caught:
        report.require()
    assert isinstance(caught.value, SignatureError)
    assert caught.value.report is report
    assert f"{status.value}: {status.explanation}" in str(caught.value)


def test_every_status_is_reached():
    assert {status for status, *_ in CASES.values()} == set(TrustStatus)


def test_a_report_names_values_and_limits():
    detail = judge(*CASES["70 older release"][1:3]).detail
    assert detail.endswith("sequence 4, at least 5 needed")
    detail = judge(TWO, join_signatures(ALICE_SIGNED, sign(EVE))).detail
    assert detail.startswith("1 of 2 for role 'publisher'; key ")
    report = judge(TWO, join_signatures(sign(ALICE, expires=NOW + DAY), sign(BOB)))
    assert (report.role, report.threshold, report.counted) == ("publisher", 2, 2)
    assert report.expires == NOW + DAY
    assert report.to_json()["signers"][0]["algorithm"] == "ed25519"  # type: ignore[index]


def test_every_bit_flip_of_a_signature_file():
    for bit in range(len(ALICE_SIGNED) * 8):
        changed = bytearray(ALICE_SIGNED)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureError):
            STORE.verify_manifest(M, bytes(changed))


def test_every_bit_flip_of_the_manifest():
    for bit in range(len(M) * 8):
        changed = bytearray(M)
        changed[bit // 8] ^= 1 << bit % 8
        report = judge(STORE, ALICE_SIGNED, bytes(changed))
        assert report.status is S.WRONG_SUBJECT


def test_the_signer_of_the_guide_trusts_itself_and_added_keys_only():
    signer = PackageSigner(SignatureAlgorithm.Ed25519)
    assert signer.verify(M, signer.sign(M)).trusted
    with pytest.raises(UntrustedError, match="unknown-signer"):
        signer.verify(M, ALICE.sign(M))
    with pytest.raises(UntrustedError, match="stripped"):
        signer.verify(M, None)
    signer.trust(ALICE.public_key)
    assert signer.verify(M, ALICE.sign(M)).trusted
    with pytest.raises(UntrustedError, match="wrong-subject"):
        signer.verify(M + b" ", signer.sign(M))


def test_post_quantum_co_signer():
    """Ed25519 and ML-DSA-65 as two signers with threshold two."""
    quantum = PackageSigner(SignatureAlgorithm.MlDsa65)
    store = TrustStore.trusting([ALICE.public_key, quantum.public_key], threshold=2)
    assert judge(store, join_signatures(ALICE_SIGNED, sign(quantum))).trusted
    assert judge(store, ALICE_SIGNED).status is S.THRESHOLD


def test_one_envelope_with_two_signatures_counts_two():
    envelope = _ENVELOPE.signed(BOB.private_key)
    assert judge(TWO, dump_envelopes([envelope])).counted == 2


@pytest.mark.parametrize(
    ("glob", "name", "expected"),
    [
        ("acme/*", "acme/m", True),
        ("acme/*", "acme/a/b", False),
        ("acme/**", "acme/a/b", True),
        ("**", "anything/at/all", True),
        ("*", "acme/m", False),
        ("acme/m-*", "acme/m-1", True),
        ("acme/*", "xacme/m", False),
        ("a.me/*", "acme/m", False),
    ],
)
def test_patterns(glob: str, name: str, expected: bool):
    assert matches(glob, name) is expected


# The store itself

ROOT = [PrivateKey.generate() for _ in range(3)]
NEW_ROOT = [PrivateKey.generate() for _ in range(2)]
ROOTED = STORE.with_root(
    RootPolicy(tuple(key.public_key.key_id for key in ROOT), 2), [k.public_key for k in ROOT]
)
ROTATED = ROOTED.with_root(
    RootPolicy(tuple(key.public_key.key_id for key in NEW_ROOT), 2),
    [k.public_key for k in NEW_ROOT],
)
REVOKED = ROOTED.revoke(ALICE.public_key.key_id)


def test_updates_need_the_threshold_of_both_roots():
    assert ROOTED.updated(REVOKED.signed_update(ROOT[:2])) == REVOKED
    assert ROOTED.updated(ROTATED.signed_update([*ROOT[1:], *NEW_ROOT])) == ROTATED


def _remove_root() -> bytes:
    new = dataclasses.replace(ROOTED, root=None, version=99)
    return new.signed_update(ROOT)


_COMPROMISED = ROOTED.revoke(ROOT[0].public_key.key_id)

REFUSED_UPDATES = {
    "75 unsigned": (ROOTED, REVOKED.signed_update([]), "0 of 2 signatures of the present root"),
    "75 one signature": (ROOTED, REVOKED.signed_update(ROOT[:1]), "1 of 2"),
    "75 one key twice": (ROOTED, REVOKED.signed_update([ROOT[0], ROOT[0]]), "1 of 2"),
    "75 strangers": (ROOTED, ROTATED.signed_update(NEW_ROOT), "present root"),
    "75 new root did not sign": (ROOTED, ROTATED.signed_update(ROOT), "of the new root"),
    "75 rollback": (REVOKED, ROOTED.signed_update(ROOT), "a rollback"),
    "75 same version": (ROOTED, ROOTED.signed_update(ROOT), "not above"),
    "75 by a revoked root key": (
        _COMPROMISED,
        dataclasses.replace(_COMPROMISED, version=50).signed_update(ROOT[:2]),
        "1 of 2",
    ),
    "root removed": (ROOTED, _remove_root(), "remove the root"),
    "no root": (STORE, REVOKED.signed_update(ROOT), "has no root"),
    "a package signature": (ROOTED, ALICE_SIGNED, "no trust store update"),
    "not JSON": (ROOTED, b"x", "malformed"),
}


@pytest.mark.parametrize("case", REFUSED_UPDATES)
def test_refused_updates(case: str):
    store, update, message = REFUSED_UPDATES[case]
    with pytest.raises(SignatureError, match=message):
        store.updated(update)


def test_a_store_survives_its_file(tmp_path):
    store = dataclasses.replace(
        ROOTED.revoke(BOB.public_key.key_id, reason=RevocationReason.SUPERSEDED),
        expires=NOW,
        clock_skew=dt.timedelta(seconds=30),
    ).with_role(Role("late", ("**",), (BOB.public_key.key_id,), 1, NOW, NOW + DAY, 7))
    store.save(tmp_path / "trust.json")
    assert TrustStore.load(tmp_path / "trust.json") == store
    assert [path.name for path in tmp_path.iterdir()] == ["trust.json"]


def _store_text(**changes) -> bytes:
    return dumps(json.loads(STORE.to_bytes()) | changes)


_KEY = ALICE.public_key.pem.decode()
MALFORMED_STORES = {
    "key twice": (
        _store_text(keys=[{"algorithm": "ed25519", "pem": _KEY}] * 2),
        "twice",
    ),
    "wrong algorithm": (
        _store_text(keys=[{"algorithm": "rsa", "pem": _KEY}]),
        "but the key is ed25519",
    ),
    "no PEM": (_store_text(keys=[{"algorithm": "ed25519", "pem": "x"}]), "no PEM public key"),
    "role with an unlisted key": (_store_text(keys=[]), "used but not listed"),
    "threshold 0": (
        _store_text(roles=[STORE.roles[0].to_json() | {"threshold": 0}]),
        "outside 1..1024",
    ),
    "threshold above keys": (
        _store_text(roles=[STORE.roles[0].to_json() | {"threshold": 3}]),
        "threshold 3 of 2 keys",
    ),
    "role without packages": (
        _store_text(roles=[STORE.roles[0].to_json() | {"packages": []}]),
        "names no packages",
    ),
    "two roles of one name": (_store_text(roles=[STORE.roles[0].to_json()] * 2), "two roles"),
    "bad time": (_store_text(expires="tomorrow"), "2026-01-31T12:00:00Z"),
    "schema": (_store_text(schema=2), "schema 2"),
    "unknown field": (_store_text(extra=1), "unknown field"),
}


@pytest.mark.parametrize("case", MALFORMED_STORES)
def test_malformed_stores(case: str):
    data, message = MALFORMED_STORES[case]
    with pytest.raises(ManifestError, match=message):
        TrustStore.parse(data)


def test_careless_use_is_refused():
    with pytest.raises(InvalidArgumentError, match="no key"):
        STORE.revoke("0" * 64)
    with pytest.raises(InvalidArgumentError, match="expire before"):
        ALICE.sign(M, issued=NOW, expires=NOW - DAY)
    with pytest.raises(InvalidArgumentError, match="outside"):
        ALICE.sign(M, sequence=-1)
    with pytest.raises(InvalidArgumentError, match="ed25519, not ecdsa"):
        PackageSigner(SignatureAlgorithm.EcdsaP256, ALICE.private_key)
    with pytest.raises(InvalidArgumentError, match="no time zone"):
        ALICE.sign(M, issued=dt.datetime(2026, 1, 1))
    with pytest.raises(InvalidArgumentError, match="threshold 2 of 1"):
        PackageSigner(threshold=2).verify(M, None)


def test_a_revocation_needs_no_clock_of_the_signer():
    entry = Revocation("k", NOW)
    assert entry.voids(NOW - 1000 * DAY)
    assert not dataclasses.replace(entry, reason=RevocationReason.SUPERSEDED).voids(NOW - DAY)


def test_an_unverified_statement_is_never_parsed_for_a_trusted_key():
    """Garbage under a trusted id is an invalid signature, not a malformed statement."""
    envelope = Envelope(_ENVELOPE.payload_type, b"\xff", _ENVELOPE.signatures)
    assert judge(STORE, dump_envelopes([envelope])).status is S.INVALID
