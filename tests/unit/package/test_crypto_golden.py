"""Encrypted and signed packages of every format version, kept for ever, and a second reader.

The second reader follows FORMAT.md, sections 9 and 10, with the primitives of `cryptography` and
the standard library alone. `python tests/unit/package/test_crypto_golden.py` adds the files of the
current version where they are missing; files that are there are never written again.
"""

import base64
import hashlib
import hmac
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from sealed_oracle import facts_context, open_chunked, open_stream

from torsh_package import (
    EncryptionAlgorithm,
    LineageRelation,
    Package,
    PackageEncryptor,
    PackageSigner,
    PasswordRecipient,
    PublicKey,
    ResourceType,
    TrustStore,
    X25519Identity,
    serialize_package,
)
from torsh_package.crypto import Argon2idParams, ScryptParams
from torsh_package.governance import AuditLog
from torsh_package.lineage import Artifact, LineageTracker, read_lineage, record_origin
from torsh_package.manifest import SCHEMA

FOLDER = Path(__file__).parent / "golden_sealed"
VERSION = "{}.{}".format(*SCHEMA)
PASSWORD = "gold\u00e9n"
FILES = sorted(FOLDER.glob("*.torshpkg"))
DATA = bytes(i * 13 % 251 for i in range(40_000))
LONG = (DATA * 27)[: (1 << 20) + 1000]


def make(long: bool = False) -> Package:
    package = Package("acme/golden", "1.0.0")
    package.add_resource("data", DATA, ResourceType.Data)
    package.add_resource("empty", b"", ResourceType.Data)
    if long:  # over one chunk of schema 2
        package.add_resource("long", LONG, ResourceType.Data)
    source = Artifact("golden.pt", "sha256:" + "ab" * 32)
    record_origin(package, source, LineageRelation.ConvertedFrom, creator="torsh")
    return package


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def expand(key: bytes, info: bytes, size: int, algorithm: hashes.HashAlgorithm) -> bytes:
    return HKDFExpand(algorithm, size, info).derive(key)


def derived(stanza: dict) -> bytes:
    salt = bytes.fromhex(stanza["salt"])
    if stanza["type"] == "scrypt":
        kdf = Scrypt(salt=salt, length=32, n=stanza["n"], r=stanza["r"], p=stanza["p"])
    else:
        kdf = Argon2id(
            salt=salt,
            length=32,
            iterations=stanza["iterations"],
            lanes=stanza["lanes"],
            memory_cost=stanza["memory_kib"],
        )
    return kdf.derive(PASSWORD.encode())


def content_keys(header: dict) -> Iterator[bytes]:
    """K out of every recipient."""
    for stanza in header["recipients"]:
        wrapped = bytes.fromhex(stanza["wrapped"])
        if stanza["type"] == "x25519":
            key = load_pem_private_key((FOLDER / "identity").read_bytes(), None)
            assert isinstance(key, X25519PrivateKey)
            suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
            yield suite.decrypt(wrapped, key, b"torshpkg/v1/x25519")
        else:
            okm = expand(derived(stanza), b"torshpkg/v1/password", 64, hashes.SHA256())
            assert okm[32:].hex() == stanza["commitment"]
            yield ChaCha20Poly1305(okm[:32]).decrypt(bytes(12), wrapped, None)


def second_reader(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        raw = archive.read("manifest.json")
        header = json.loads(archive.read("META/encryption.json"))
        manifest = json.loads(raw)
        entries = {e["name"]: archive.read(e["path"]) for e in _entries(manifest)}
    assert header["manifest"] == hashlib.sha256(raw).hexdigest()
    mac = header.pop("mac")
    keys = set(content_keys(header))
    assert len(keys) == 1
    key = keys.pop()
    mac_key = expand(key, b"torshpkg/v1/header", 32, hashes.SHA256())
    assert hmac.digest(mac_key, canonical(header), "sha256").hex() == mac
    found = {}
    for document, group in ((False, manifest["resources"]), (True, manifest["documents"])):
        for entry in group:
            context, algorithm = facts_context(entry, document), header["algorithm"]
            record: dict[str, object] = {"algorithm": algorithm}
            if header["schema"] == 2:
                record["chunk_bytes"] = 1 << 20
            assert entry["encryption"] == record
            unseal = {1: open_chunked, 2: open_stream}[header["schema"]]
            found[entry["name"]] = unseal(key, algorithm, context, entries[entry["name"]])
    return found


def _entries(manifest: dict) -> list[dict]:
    return manifest["resources"] + manifest["documents"]


SEALED = [path for path in FILES if "signed" not in path.name]


@pytest.mark.parametrize("path", SEALED, ids=[path.stem for path in SEALED])
def test_sealed_files_are_read_by_both_readers(path: Path):
    other = second_reader(path)
    assert other["data"] == DATA
    assert other.get("long", LONG) == LONG
    opening: list[dict[str, Any]] = [
        {"password": PASSWORD},
        {"password": "golde\u0301n"},
        {"identities": [X25519Identity.load(FOLDER / "identity")]},
    ]
    for keys in opening:
        package = Package.load(path, **keys)
        assert {n: bytes(package.get_resource(n).data) for n in package.list_resources()} == {
            name: data for name, data in other.items() if name != "lineage.json"
        }
        assert bytes(package.get_document("lineage.json").data) == other["lineage.json"]


SIGNED = [path for path in FILES if "signed" in path.name]


@pytest.mark.parametrize("path", SIGNED, ids=[path.stem for path in SIGNED])
def test_signed_files_are_verified_by_both_readers(path: Path):
    store = TrustStore.load(FOLDER / "trust.json")
    package = Package.load(path, trust=store)
    assert package.get_resource("data").data == DATA
    tracker = read_lineage(package)
    assert tracker is not None
    assert [artifact.name for artifact in tracker.ancestors("acme/golden@1.0.0")] == ["golden.pt"]
    with zipfile.ZipFile(path) as archive:
        raw = archive.read("manifest.json")
        (envelope,) = json.loads(archive.read("META/signatures.dsse.json"))
    payload = base64.b64decode(envelope["payload"], validate=True)
    kind = envelope["payloadType"]
    message = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    (signature,) = envelope["signatures"]
    key = load_pem_public_key((FOLDER / "signer.pub").read_bytes())
    key.verify(base64.b64decode(signature["sig"]), message)  # type: ignore[union-attr, call-arg]
    statement = json.loads(payload)
    assert statement["subject"][0]["digest"]["sha256"] == hashlib.sha256(raw).hexdigest()


def test_other_files_of_the_current_version_are_read():
    assert AuditLog(FOLDER / "audit.log", read_only=True).verify().count == 2
    tracker = LineageTracker.load(FOLDER / "lineage.json")
    assert len(tracker.edges()) == 1


def test_nothing_golden_was_changed():
    listed = dict(line.split()[::-1] for line in (FOLDER / "SHA256").read_text().splitlines())
    found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in FOLDER.iterdir()}
    found.pop("SHA256")
    assert found == listed


CHEAP = [Argon2idParams(memory_kib=64, iterations=2, lanes=2), ScryptParams(n=32, r=4, p=2)]


def _sealed(algorithm: EncryptionAlgorithm, long: bool) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        recipient = X25519Identity.load(FOLDER / "identity").recipient
        passwords = [PasswordRecipient(PASSWORD, params) for params in CHEAP]
        PackageEncryptor(algorithm).encrypt_package(make(long), [recipient, *passwords]).save(path)

    return write


def _signed(path: Path) -> None:
    signer = PackageSigner()
    (FOLDER / "signer.pub").write_bytes(signer.public_key.pem)
    TrustStore.trusting([signer.public_key], packages=["acme/*"]).save(FOLDER / "trust.json")
    package = make()
    package.set_signature(signer.sign(serialize_package(package)))
    package.save(path)
    (FOLDER / "lineage.json").write_bytes(bytes(package.get_document("lineage.json").data))
    AuditLog(FOLDER / "audit.log").append("sign", "acme/golden 1.0.0")


MAKERS: dict[str, Callable[[Path], None]] = {
    "aes-stream": _sealed(EncryptionAlgorithm.Aes256Gcm, True),
    "chacha-stream": _sealed(EncryptionAlgorithm.ChaCha20Poly1305, False),
    "signed": _signed,
}


def test_both_forms_have_golden_files():
    """Schema 1 is only read; its two files cannot be made again."""
    schemas: dict[int, set[str]] = {}
    for path in SEALED:
        with zipfile.ZipFile(path) as archive:
            header = json.loads(archive.read("META/encryption.json"))
        schemas.setdefault(header["schema"], set()).add(header["algorithm"])
    both = {"aes-256-gcm", "chacha20-poly1305"}
    assert schemas == {1: both, 2: both}


@pytest.mark.parametrize("kind", MAKERS)
def test_current_version_has_golden_files(kind: str):
    assert FOLDER / f"{VERSION}-{kind}.torshpkg" in FILES
    assert PublicKey.load(FOLDER / "signer.pub").algorithm.value == "ed25519"


if __name__ == "__main__":
    if not (FOLDER / "identity").exists():
        X25519Identity.generate().save(FOLDER / "identity")
    for kind, write in MAKERS.items():
        if not (FOLDER / f"{VERSION}-{kind}.torshpkg").exists():
            write(FOLDER / f"{VERSION}-{kind}.torshpkg")
    names = sorted(path for path in FOLDER.iterdir() if path.name != "SHA256")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in names]
    (FOLDER / "SHA256").write_text("".join(lines))
