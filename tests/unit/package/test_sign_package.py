"""Signed packages: guide B's snippets, stripping, downgrade, strangers, files, interoperability."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import model_signing
import numpy as np
import pytest

from torsh_package import (
    LineageRelation,
    LineageTracker,
    Package,
    PackageEncryptor,
    PackageSigner,
    ResourceType,
    SignatureAlgorithm,
    TrustStatus,
    TrustStore,
    X25519Identity,
    serialize_package,
)
from torsh_package.errors import InvalidArgumentError, PackageError, SignatureError, StorageError
from torsh_package.files import load_json_config, load_numpy_weights
from torsh_package.trust import (
    PrivateKey,
    PublicKey,
    UntrustedError,
    export_model_signing,
    sign_file,
    verify_file,
)
from torsh_package.trust.dsse import load_envelopes

ALICE, EVE = PackageSigner(), PackageSigner()
STORE = TrustStore.trusting([ALICE.public_key], packages=["acme/*"])


def make() -> Package:
    package = Package("acme/m", "1.0.0")
    package.add_resource("weights", {"w": np.arange(100, dtype="f4")}, ResourceType.ModelWeights)
    package.add_resource("config", b"{}", ResourceType.Config)
    package.add_dependency_spec("torsh-nn", "^0.1.0")
    return package


def signed(signer: PackageSigner = ALICE) -> Package:
    package = make()
    package.set_signature(signer.sign(serialize_package(package)))
    return package


def refused(data: bytes | Path | Package, store: TrustStore = STORE) -> TrustStatus:
    source = data.to_bytes() if isinstance(data, Package) else data
    with pytest.raises(UntrustedError) as caught:
        Package.load(source, trust=store)
    assert isinstance(caught.value, SignatureError)
    return caught.value.report.status


def test_the_snippet_of_the_guide(tmp_path):
    """Guide B, "Package Signing"."""
    package = make()
    signer = PackageSigner(SignatureAlgorithm.Ed25519)
    signature = signer.sign(serialize_package(package))
    package.set_signature(signature)
    package.save(tmp_path / "model.torshpkg")
    loaded = Package.load(tmp_path / "model.torshpkg")
    report = signer.verify_package(loaded)
    assert report.trusted
    assert report.signers[0].key_id == signer.public_key.key_id
    assert loaded.trust is None  # nobody was asked at load


def test_the_complete_migration_of_the_guide(tmp_path, capsys):
    """Guide B, "Example: Complete Migration", as written."""
    arrays: dict[str, Any] = {"fc.weight": np.ones((10, 784), "f4")}
    np.savez(tmp_path / "pytorch_weights.npz", **arrays)
    (tmp_path / "config.json").write_text('{"hidden": 10}')

    # 1. Load PyTorch exported data
    weights = load_numpy_weights(tmp_path / "pytorch_weights.npz")
    config = load_json_config(tmp_path / "config.json")

    # 2. Create ToRSh package
    package = Package("migrated-model", "1.0.0")
    package.set_author("Migration Tool")
    package.set_description("Migrated from PyTorch 2.0")

    # 3. Add resources
    package.add_resource("weights", weights, ResourceType.ModelWeights)
    package.add_resource("config", config.encode(), ResourceType.Config)

    # 4. Add dependencies
    package.add_dependency_spec("torsh-nn", "^0.1.0")
    package.add_dependency_spec("torsh-vision", "^0.1.0")

    # 5. Sign package
    signer = PackageSigner(SignatureAlgorithm.Ed25519)
    signature = signer.sign(serialize_package(package))
    package.set_signature(signature)

    # 6. Save
    package.save(tmp_path / "migrated_model.torshpkg")

    # 7. Track lineage
    tracker = LineageTracker()
    tracker.add_lineage(
        "pytorch-model",
        "migrated-model",
        LineageRelation.ConvertedFrom,
        "Migrated from PyTorch",
    )

    print("Migration complete!")
    assert capsys.readouterr().out == "Migration complete!\n"
    loaded = Package.load(tmp_path / "migrated_model.torshpkg", trust=signer.store())
    assert loaded.trust is not None
    assert loaded.trust.trusted
    stored = np.load(io.BytesIO(bytes(loaded.get_resource("weights").data)), allow_pickle=False)
    assert stored["fc.weight"].sum() == 7840
    assert [artifact.name for artifact in tracker.ancestors("migrated-model")] == ["pytorch-model"]


def test_load_fails_closed_and_tells_the_cases_apart(tmp_path):
    assert Package.load(signed().to_bytes(), trust=STORE).trust.trusted  # type: ignore[union-attr]
    assert refused(make().to_bytes()) is TrustStatus.STRIPPED
    assert refused(signed(EVE).to_bytes()) is TrustStatus.UNKNOWN_SIGNER
    other = Package("other", "1.0.0")
    assert refused(other.to_bytes()) is TrustStatus.UNSIGNED
    other.set_signature(ALICE.sign(serialize_package(other)))
    assert refused(other.to_bytes()) is TrustStatus.NOT_AUTHORISED
    pasted = make()
    pasted.set_signature(ALICE.sign(serialize_package(Package("acme/n", "1.0.0"))))
    assert refused(pasted.to_bytes()) is TrustStatus.WRONG_SUBJECT


def _changed(change) -> Package:
    package = signed()
    change(package)
    return package


CHANGES = {
    "resource data": lambda p: (
        p.remove_resource("config"),
        p.add_resource("config", b"{ }", ResourceType.Config),
    ),
    "resource type": lambda p: (
        p.remove_resource("config"),
        p.add_resource("config", b"{}", ResourceType.Text),
    ),
    "resource added": lambda p: p.add_resource("more", b"", ResourceType.Data),
    "resource removed": lambda p: p.remove_resource("config"),
    "dependency": lambda p: p.add_dependency_spec("torsh-nn", "^0.2.0"),
    "description": lambda p: p.set_description("x"),
    "document": lambda p: p.set_document("lock.json", b"{}"),
    "code": lambda p: p.add_source_file("m", "import os"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_71_any_change_after_signing(case: str):
    package = _changed(CHANGES[case])
    with pytest.raises(UntrustedError, match="wrong-subject"):
        ALICE.verify_package(package)
    assert refused(package.to_bytes()) is TrustStatus.WRONG_SUBJECT
    again = Package.load(package.to_bytes())
    with pytest.raises(UntrustedError, match="wrong-subject"):
        ALICE.verify_package(again)


def test_every_byte_of_a_signed_package_matters():
    package = Package("acme/m", "1.0.0")
    package.add_resource("config", b"x" * 10, ResourceType.Config)
    package.set_signature(ALICE.sign(serialize_package(package)))
    data = package.to_bytes()
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        with pytest.raises(PackageError):
            Package.load(bytes(changed), trust=STORE)


def test_a_byte_changed_under_a_lazy_package_is_a_signature_error():
    data = bytearray(signed().to_bytes())
    at = data.index(np.arange(100, dtype="f4").tobytes()[40:80])
    data[at] ^= 1
    package = Package.load(bytes(data), lazy=True)
    with pytest.raises(SignatureError, match="content was changed"):
        ALICE.verify_package(package)


def test_signatures_survive_and_add_up():
    bob = PackageSigner()
    store = TrustStore.trusting([ALICE.public_key, bob.public_key], threshold=2)
    package = Package.load(signed().to_bytes())
    assert refused(package, store) is TrustStatus.THRESHOLD
    package.set_signature(bob.sign(serialize_package(package)))
    report = Package.load(package.to_bytes(), trust=store).trust
    assert report is not None
    assert report.counted == 2  # type: ignore[union-attr]


def test_the_embedded_signature_is_a_plain_zip_entry():
    with zipfile.ZipFile(io.BytesIO(signed().to_bytes())) as archive:
        assert archive.namelist()[-1] == "META/signatures.dsse.json"
        assert b"PUBLIC KEY" not in archive.read("META/signatures.dsse.json")


def test_files_are_signed_without_touching_their_content(tmp_path):
    path = tmp_path / "m.torshpkg"
    make().save(path)
    before = path.read_bytes()
    signature = sign_file(path, ALICE)
    assert Package.load(path, trust=STORE).signatures == signature.to_bytes()
    assert verify_file(path, STORE).report.trusted  # type: ignore[union-attr]
    sign_file(path, EVE)
    report = verify_file(path, STORE).report
    assert report is not None
    assert [signer.status.value for signer in report.signers] == ["trusted", "unknown-signer"]
    package = Package.load(path)
    package.signatures = None
    assert package.to_bytes() == before


def test_two_signers_at_once_lose_no_signature(tmp_path):
    path = tmp_path / "m.torshpkg"
    make().save(path)

    class Slow(PackageSigner):
        def sign(self, data, **claim):
            sign_file(path, EVE)  # somebody else, between our reading and our writing
            return super().sign(data, **claim)

    with pytest.raises(StorageError):
        sign_file(path, Slow())
    assert len(load_envelopes(Package.load(path).signatures or b"")) == 1
    sign_file(path, ALICE)
    assert len(load_envelopes(Package.load(path).signatures or b"")) == 2


def test_detached_signatures(tmp_path):
    path, beside = tmp_path / "m.torshpkg", tmp_path / "m.torshpkg.sig"
    make().save(path)
    before = path.read_bytes()
    sign_file(path, ALICE, detached=beside)
    sign_file(path, EVE, detached=beside)
    assert path.read_bytes() == before
    assert verify_file(path, STORE).report.status is TrustStatus.STRIPPED  # type: ignore[union-attr]
    assert verify_file(path, STORE, detached=beside).report.trusted  # type: ignore[union-attr]
    assert verify_file(path).report is None
    package = Package.load(path)
    ALICE.verify(serialize_package(package), beside.read_bytes())


def test_an_encrypted_file_is_signed_without_its_key(tmp_path):
    path, identity = tmp_path / "m.torshpkg", X25519Identity.generate()
    PackageEncryptor().encrypt_package(make(), identity.recipient).save(path)
    sign_file(path, ALICE)
    assert verify_file(path, STORE).report.trusted  # type: ignore[union-attr]
    loaded = Package.load(path, identities=[identity], trust=STORE)
    assert loaded.get_resource("config").data == b"{}"
    assert ALICE.verify_package(loaded).trusted


def test_damaged_files_are_not_signed(tmp_path):
    path = tmp_path / "m.torshpkg"
    make().save(path)
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    with pytest.raises(PackageError):
        sign_file(path, ALICE)
    assert path.read_bytes() == data
    with pytest.raises(PackageError):
        verify_file(path, STORE)


def test_another_process_verifies_with_the_public_key_alone(tmp_path):
    signed().save(tmp_path / "m.torshpkg")
    ALICE.private_key.save(tmp_path / "key")
    code = (
        "import sys; from torsh_package import Package, PublicKey, TrustStore\n"
        "store = TrustStore.trusting([PublicKey.load(sys.argv[2])])\n"
        "print(Package.load(sys.argv[1], trust=store).trust.status.value)\n"
    )
    arguments = [str(tmp_path / "m.torshpkg"), str(tmp_path / "key.pub")]
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert run.stdout == "trusted\n"
    assert PublicKey.load(tmp_path / "key.pub") == ALICE.public_key


def test_model_signing_verifies_the_export(tmp_path):
    path, bundle = tmp_path / "m.torshpkg", tmp_path / "m.sigstore.json"
    signed().save(path)
    key = PrivateKey.generate(SignatureAlgorithm.EcdsaP256)
    key.save(tmp_path / "key")
    bundle.write_bytes(export_model_signing(path, key))
    verifier = model_signing.verifying.Config().use_elliptic_key_verifier(
        public_key=tmp_path / "key.pub"
    )
    verifier.verify(path, bundle)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"(?i)mismatch"):
        verifier.verify(path, bundle)
    with pytest.raises(InvalidArgumentError, match="ECDSA only"):
        export_model_signing(path, ALICE.private_key)
