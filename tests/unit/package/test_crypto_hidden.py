"""Encrypted packages that hide their manifest: what can be seen, and what nesting may not do."""

import io
from pathlib import Path

import numpy as np
import pytest

from tools.torsh_package import main
from torsh_package import (
    DecryptionError,
    EncryptedPackage,
    Package,
    PackageEncryptedError,
    PackageEncryptor,
    PackageSigner,
    PasswordRecipient,
    ResourceType,
    TrustStore,
    X25519Identity,
    serialize_package,
)
from torsh_package.crypto import Argon2idParams, PackageSealer
from torsh_package.crypto.algorithms import EncryptionAlgorithm
from torsh_package.errors import ContainerError, PackageError
from torsh_package.reading import HIDDEN_MEDIA_TYPE

ALICE, BOB = X25519Identity.generate(), X25519Identity.generate()
TELLING = [b"attention.query", b"secret_recipe", b"Ada", b"numpy", b"[768,768]", b"model_weights"]


def make() -> Package:
    package = Package("acme/model", "1.0.0")
    package.set_description("secret_recipe")
    package.set_author("Ada")
    package.add_requirements("numpy>=1.24")
    arrays = {"attention.query": np.zeros((768, 768), "u1")}
    package.add_resource("model_weights", arrays, ResourceType.ModelWeights)
    return package


@pytest.fixture(scope="module")
def hidden() -> EncryptedPackage:
    return PackageEncryptor().encrypt_package(make(), ALICE.recipient, hide=True)


def test_nothing_but_name_version_and_size_can_be_read(hidden: EncryptedPackage) -> None:
    plainly = PackageEncryptor().encrypt_package(make(), ALICE.recipient).to_bytes()
    assert all(word in plainly for word in TELLING)
    data = hidden.to_bytes()
    assert not any(word in data for word in TELLING)
    assert b"acme/model" in data
    (entry,) = hidden.manifest.entries()
    assert (entry.name, entry.media_type, entry.tensors) == ("package", HIDDEN_MEDIA_TYPE, None)


@pytest.mark.parametrize("lazy", [False, True])
def test_with_the_key_it_is_the_package(hidden: EncryptedPackage, lazy: bool) -> None:
    loaded = Package.load(hidden.to_bytes(), identities=[ALICE], lazy=lazy)
    assert loaded.encrypted
    assert (loaded.description, loaded.authors) == ("secret_recipe", ["Ada"])
    assert loaded.get_resource("model_weights").tensor("attention.query").shape == (768, 768)
    assert [d.name for d in loaded.dependencies] == ["numpy"]
    with pytest.raises(PackageEncryptedError):
        loaded.to_bytes()
    opened = PackageEncryptor().decrypt_package(hidden, [ALICE])
    assert serialize_package(opened) == serialize_package(make())
    assert opened.to_bytes() == make().to_bytes()


def test_without_the_key_it_is_refused(hidden: EncryptedPackage) -> None:
    with pytest.raises(PackageEncryptedError):
        Package.load(hidden.to_bytes())
    with pytest.raises(DecryptionError):
        Package.load(hidden.to_bytes(), identities=[BOB])


def test_it_can_be_hidden_again_and_rewrapped(hidden: EncryptedPackage) -> None:
    loaded = Package.load(hidden.to_bytes(), identities=[ALICE])
    again = PackageEncryptor().encrypt_package(loaded, BOB.recipient, hide=True)
    assert Package.load(again.to_bytes(), identities=[BOB]).description == "secret_recipe"
    again.rewrap([BOB], add=[ALICE.recipient])
    assert Package.load(again.to_bytes(), identities=[ALICE]).description == "secret_recipe"


def test_signatures_inside_and_outside() -> None:
    inner, outer = PackageSigner(), PackageSigner()
    package = make()
    package.set_signature(inner.sign(serialize_package(package)))
    sealed = PackageEncryptor().encrypt_package(package, ALICE.recipient, hide=True)
    sealed.set_signature(outer.sign(sealed.manifest_bytes()))
    trust = TrustStore.trusting([outer.public_key], packages=["acme/*"])
    data = sealed.to_bytes()
    assert Package.load(data, identities=[ALICE], trust=trust).trust is not None
    stranger = TrustStore.trusting([inner.public_key], packages=["acme/*"])
    with pytest.raises(PackageError):
        Package.load(data, identities=[ALICE], trust=stranger)
    opened = PackageEncryptor().decrypt_package(sealed, [ALICE])
    assert Package.load(opened.to_bytes(), trust=stranger).trust is not None


def nest(name: str, inner: bytes) -> bytes:
    """What somebody with the key of a recipient could make."""
    outer = Package(name, "1.0.0")
    outer.add_resource("package", inner, ResourceType.Binary, media_type=HIDDEN_MEDIA_TYPE)
    blob = io.BytesIO()
    sealer = PackageSealer(EncryptionAlgorithm.Aes256Gcm, [ALICE.recipient])
    outer._write(blob, sealer, None)
    return blob.getvalue()


def test_a_hidden_package_has_the_name_that_was_trusted() -> None:
    with pytest.raises(ContainerError, match="acme/model"):
        Package.load(nest("acme/other", make().to_bytes()), identities=[ALICE])


def test_no_second_level(hidden: EncryptedPackage) -> None:
    with pytest.raises(ContainerError, match="encrypted itself"):
        Package.load(nest("acme/model", hidden.to_bytes()), identities=[ALICE])


@pytest.mark.parametrize("bad", [b"", b"PK", b"x" * 500])
def test_what_is_hidden_is_read_strictly(bad: bytes) -> None:
    with pytest.raises(PackageError):
        Package.load(nest("acme/model", bad), identities=[ALICE])
    damaged = bytearray(make().to_bytes())
    damaged[300] ^= 1
    with pytest.raises(PackageError):
        Package.load(nest("acme/model", bytes(damaged)), identities=[ALICE])


def test_a_package_in_a_plain_package_is_just_a_resource() -> None:
    outer = Package("acme/other", "1.0.0")
    data = make().to_bytes()
    outer.add_resource("package", data, ResourceType.Binary, media_type=HIDDEN_MEDIA_TYPE)
    loaded = Package.load(outer.to_bytes())
    assert loaded.list_resources() == ["package"]


def test_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make().save("m.torshpkg")
    ALICE.save("alice")
    arguments = ["--recipient", "alice.pub", "--hide"]
    assert main(["encrypt", "m.torshpkg", "-o", "e.torshpkg", *arguments]) == 0
    assert main(["inspect", "e.torshpkg"]) == 0
    assert "model_weights" not in capsys.readouterr().out
    assert main(["inspect", "e.torshpkg", "--identity", "alice"]) == 0
    assert "model_weights" in capsys.readouterr().out
    assert main(["verify", "e.torshpkg"]) == 0
    assert main(["verify", "e.torshpkg", "--identity", "alice"]) == 0
    assert main(["decrypt", "e.torshpkg", "-o", "d.torshpkg", "--identity", "alice"]) == 0
    assert Path("d.torshpkg").read_bytes() == Path("m.torshpkg").read_bytes()


def test_a_password_hides_too() -> None:
    recipient = PasswordRecipient("pw", Argon2idParams(memory_kib=8, iterations=1, lanes=1))
    data = PackageEncryptor().encrypt_package(make(), recipient, hide=True).to_bytes()
    assert Package.load(data, password="pw").authors == ["Ada"]
