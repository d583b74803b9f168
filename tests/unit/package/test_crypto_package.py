"""Encrypted packages: guide B's snippet, recipients, signatures inside and outside, attacks."""

import dataclasses
import io
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from torsh_package import (
    CompressionAlgorithm,
    DecryptionError,
    EncryptedPackage,
    EncryptionAlgorithm,
    Package,
    PackageEncryptedError,
    PackageEncryptor,
    PackageError,
    PackageSigner,
    PasswordRecipient,
    ResourceType,
    TrustStore,
    X25519Identity,
    serialize_package,
)
from torsh_package.crypto import Argon2idParams
from torsh_package.crypto.formats import CANNOT_DECRYPT
from torsh_package.errors import InvalidArgumentError, SignatureError
from torsh_package.unbound import read_keyless

CHEAP = Argon2idParams(memory_kib=8, iterations=1, lanes=1)
PASSWORD = PasswordRecipient("password", CHEAP)
ALICE, BOB = X25519Identity.generate(), X25519Identity.generate()
MARK = b"a very recognisable secret"


def make(compress: bool = False) -> Package:
    package = Package("acme/model", "1.0.0")
    package.set_description("secret weights")
    package.add_resource("weights", {"w": np.arange(50_000, dtype="f4")}, ResourceType.ModelWeights)
    package.add_resource("config", MARK * 100, ResourceType.Config)
    package.set_document("lock.json", b"{}")
    if compress:
        package.set_compression(CompressionAlgorithm.Zstd)
    return package


def same(one: Package, two: Package) -> bool:
    names = one.list_resources()
    return names == two.list_resources() and all(
        one.get_resource(name).data == two.get_resource(name).data for name in names
    )


def test_the_snippet_of_the_guide(tmp_path):
    """Guide B, "Encryption", with the guide's password and default key derivation."""
    package, path = make(), tmp_path / "model_encrypted.torshpkg"
    encryptor = PackageEncryptor(EncryptionAlgorithm.Aes256Gcm)
    encrypted = encryptor.encrypt_package(package, "password")
    encrypted.save(path)
    decrypted = encryptor.decrypt_package(encrypted, "password")
    assert same(decrypted, package)
    assert MARK not in path.read_bytes()


def test_loading_asks_for_a_password(tmp_path):
    path = tmp_path / "p.torshpkg"
    PackageEncryptor().encrypt_package(make(), PASSWORD).save(path)
    with pytest.raises(PackageEncryptedError, match="password or identities"):
        Package.load(path)
    assert same(Package.load(path, password="password"), make())
    with pytest.raises(DecryptionError) as caught:
        Package.load(path, password="Password")
    assert str(caught.value) == f"{path}: {CANNOT_DECRYPT}"


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("algorithm", EncryptionAlgorithm)
def test_round_trip(algorithm, compress, tmp_path):
    package, path = make(compress), tmp_path / "p.torshpkg"
    encryptor = PackageEncryptor(algorithm)
    encryptor.encrypt_package(package, [PASSWORD, ALICE.recipient]).save(path)
    for identities in ("password", ALICE, [BOB, ALICE]):
        decrypted = encryptor.decrypt_package(path, identities)
        assert same(decrypted, package)
        assert serialize_package(decrypted) == serialize_package(package)
    decrypted.save(tmp_path / "plain.torshpkg")
    package.save(tmp_path / "original.torshpkg")
    assert (tmp_path / "plain.torshpkg").read_bytes() == (
        tmp_path / "original.torshpkg"
    ).read_bytes()


def test_what_any_unzip_shows(tmp_path):
    path = tmp_path / "p.torshpkg"
    PackageEncryptor().encrypt_package(make(), ALICE.recipient).save(path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert "META/encryption.json" in names
        assert all(n.endswith(".tenc") for n in names if n.startswith(("resources", "depend")))
        assert not any(MARK in archive.read(name) for name in names)


def test_no_plain_digest_is_told():
    encrypted = PackageEncryptor().encrypt_package(make(compress=True), ALICE.recipient)
    entries = encrypted.manifest.entries()
    assert all(entry.plain_root is None and entry.encryption for entry in entries)
    other = PackageEncryptor().encrypt_package(make(compress=True), ALICE.recipient)
    assert {e.root for e in entries}.isdisjoint(e.root for e in other.manifest.entries())


def test_recipients_change_and_signatures_stay():
    """Rewrapping touches `META/encryption.json` alone, so the publisher's signature holds."""
    signer = PackageSigner()
    encrypted = PackageEncryptor().encrypt_package(make(), [PASSWORD, ALICE.recipient])
    encrypted.set_signature(signer.sign(encrypted.manifest_bytes()))
    before = _entries(encrypted.to_bytes())
    encrypted.rewrap("password", add=[BOB.recipient], remove=["password"])
    after = _entries(encrypted.to_bytes())
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"META/encryption.json"}
    assert signer.verify_package(encrypted).trusted
    loaded = Package.load(encrypted.to_bytes(), identities=[BOB], trust=signer.store())
    assert same(loaded, make())
    with pytest.raises(DecryptionError):
        Package.load(encrypted.to_bytes(), password="password")
    assert [label.split()[0] for label in encrypted.recipients] == ["x25519", "x25519"]


def _entries(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_signed_package_is_signed_again_after_decryption():
    signer, package = PackageSigner(), make(compress=True)
    package.set_signature(signer.sign(serialize_package(package)))
    encryptor = PackageEncryptor()
    encrypted = encryptor.encrypt_package(package, PASSWORD)
    with pytest.raises(SignatureError, match="stripped"):
        signer.verify_package(encrypted)
    decrypted = encryptor.decrypt_package(encrypted, "password")
    assert signer.verify_package(decrypted).trusted
    assert serialize_package(decrypted) == serialize_package(package)
    assert package.list_documents() == ["lock.json"]


def test_an_encrypted_package_is_not_saved_in_plain_by_accident(tmp_path):
    data = PackageEncryptor().encrypt_package(make(), ALICE.recipient).to_bytes()
    loaded = Package.load(data, identities=[ALICE])
    with pytest.raises(PackageEncryptedError, match="drop_encryption"):
        loaded.save(tmp_path / "plain.torshpkg")
    assert not list(tmp_path.iterdir())


def test_a_password_for_a_plain_package_is_refused(tmp_path):
    """Else an attacker could swap the encrypted package for a plain one of his own."""
    make().save(tmp_path / "p.torshpkg")
    with pytest.raises(InvalidArgumentError, match="nothing is encrypted"):
        Package.load(tmp_path / "p.torshpkg", password="password")
    with pytest.raises(InvalidArgumentError, match="not encrypted"):
        EncryptedPackage.load(tmp_path / "p.torshpkg")


def test_every_byte_of_an_encrypted_package_matters():
    """One flipped bit in each byte: an error, whichever layer meets it first."""
    package = Package("m", "1.0.0")
    package.add_resource("config", b"x" * 10, ResourceType.Config)
    data = PackageEncryptor().encrypt_package(package, [ALICE.recipient]).to_bytes()
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        with pytest.raises(PackageError):
            Package.load(bytes(changed), identities=[ALICE])


def test_mixing_two_packages_of_one_recipient():
    """Header of one, content of the other: the header is bound to its manifest."""
    one = PackageEncryptor().encrypt_package(make(), ALICE.recipient)
    two = PackageEncryptor().encrypt_package(make(), ALICE.recipient)
    mixed = EncryptedPackage(dataclasses.replace(one.loaded(), encryption=two.loaded().encryption))
    with pytest.raises(DecryptionError) as caught:
        PackageEncryptor().decrypt_package(mixed, ALICE)
    assert str(caught.value) == CANNOT_DECRYPT


def test_verification_needs_no_key(tmp_path):
    signer = PackageSigner()
    encrypted = PackageEncryptor().encrypt_package(make(), ALICE.recipient)
    encrypted.set_signature(signer.sign(encrypted.manifest_bytes()))
    encrypted.save(tmp_path / "p.torshpkg")
    loaded = read_keyless(tmp_path / "p.torshpkg")
    store = TrustStore.trusting([signer.public_key])
    assert store.verify_manifest(loaded.manifest_bytes, loaded.signatures).trusted
    with pytest.raises(PackageError, match="no key was given"):
        _ = loaded.contents[0].view(0, 1)


_ENCRYPT = """
import resource, sys
from torsh_package import Package, PackageEncryptor, ResourceType
from torsh_package.crypto import X25519Identity

folder = sys.argv[1]
identity = X25519Identity.generate()
def run(name):
    package = Package("m", "1.0.0")
    package.add_file("weights", f"{folder}/{name}", ResourceType.ModelWeights)
    encrypted = PackageEncryptor().encrypt_package(package, identity.recipient)
    encrypted.save(f"{folder}/{name}.torshpkg")
    loaded = Package.load(f"{folder}/{name}.torshpkg", identities=[identity], lazy=True)
    return sum(len(piece) for piece in loaded.get_resource("weights").pieces())
run("small")
data = next(int(line.split()[1]) for line in open("/proc/self/status") if "VmData" in line)
limit = (data << 10) + (64 << 20)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
print(run("large"))
"""


def test_constant_memory_from_file_to_file(tmp_path):
    """384 MiB through encryption and back with 64 MiB of private memory to spare (RLIMIT_DATA)."""
    for name, size in (("small", 32 << 20), ("large", 384 << 20)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    run = subprocess.run(
        [sys.executable, "-c", _ENCRYPT, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert run.stderr == ""
    assert int(run.stdout) == 384 << 20


def test_row_85_no_plaintext_in_temporary_files(monkeypatch, tmp_path):
    """Compressed content that is to be encrypted is compressed twice rather than spooled."""

    def refuse(*_args, **_options):
        raise AssertionError("a temporary file was made")

    monkeypatch.setattr("torsh_package.writing._SPOOL_BYTES", 1000)
    monkeypatch.setattr("tempfile.SpooledTemporaryFile", refuse)
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    package = make(compress=True)
    PackageEncryptor().encrypt_package(package, ALICE.recipient).save(tmp_path / "p.torshpkg")
    assert same(PackageEncryptor().decrypt_package(tmp_path / "p.torshpkg", ALICE), package)
