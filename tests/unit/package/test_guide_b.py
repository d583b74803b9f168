"""Guide B, transliterated to Python line by line."""

from pathlib import Path

import numpy as np
import pytest

from torsh_package import (
    LineageRelation,
    LineageTracker,
    Package,
    PackageSigner,
    ResourceType,
    SignatureAlgorithm,
    SignatureError,
    load_json_config,
    load_numpy_weights,
    serialize_package,
)


def test_complete_migration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guide B, "Example: Complete Migration"."""
    monkeypatch.chdir(tmp_path)
    np.savez("pytorch_weights.npz", **{"fc.weight": np.ones((10, 784), np.float32)})
    Path("config.json").write_text('{"layers": 1}')

    # 1. Load PyTorch exported data
    weights = load_numpy_weights("pytorch_weights.npz")
    config = load_json_config("config.json")

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
    package.save("migrated_model.torshpkg")

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
    loaded = Package.load("migrated_model.torshpkg")
    assert loaded.get_resource("weights").data == Path("pytorch_weights.npz").read_bytes()
    assert signer.verify_package(loaded).trusted
    with pytest.raises(SignatureError):
        PackageSigner(SignatureAlgorithm.Ed25519).verify_package(loaded)
    loaded.set_description("changed")
    with pytest.raises(SignatureError):
        signer.verify_package(loaded)


def test_trust_at_load(tmp_path: Path) -> None:
    """`load(path, trust=store)` fails closed: unsigned and strangers are refused."""
    package = Package("m", "1.0.0")
    package.add_resource("a", b"data", ResourceType.Data)
    signer = PackageSigner(SignatureAlgorithm.Ed25519)
    with pytest.raises(SignatureError):
        Package.load(package.to_bytes(), trust=signer.store())
    package.set_signature(signer.sign(serialize_package(package)))
    data = package.to_bytes()
    loaded = Package.load(data, trust=signer.store())
    assert loaded.trust is not None
    assert loaded.trust.trusted
    assert Package.load(data).trust is None
    with pytest.raises(SignatureError):
        Package.load(data, trust=PackageSigner(SignatureAlgorithm.Ed25519).store())


def test_helpers_refuse_other_files(tmp_path: Path) -> None:
    from torsh_package import ConversionError, StorageError

    pickled = tmp_path / "p.npz"
    np.savez(pickled, a=np.array([{"x": 1}], object), allow_pickle=True)
    junk = tmp_path / "junk"
    junk.write_bytes(b"\xff junk")
    for load, path in (
        (load_numpy_weights, pickled), (load_numpy_weights, junk), (load_json_config, junk),
    ):  # fmt: skip
        with pytest.raises(ConversionError):
            load(path)
    for load in (load_numpy_weights, load_json_config):
        with pytest.raises(StorageError):
            load(tmp_path / "none")
