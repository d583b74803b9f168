"""Converters record where a package comes from, without being asked."""

import hashlib

import numpy as np

from torsh_package import FormatConverter, LineageRelation, Package
from torsh_package.lineage import read_lineage


def test_a_converted_package_knows_its_source(tmp_path, monkeypatch):
    path = tmp_path / "weights.npz"
    np.savez(path, w=np.ones(3))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    converted = FormatConverter().convert_from_npz(path)
    loaded = Package.load(converted.to_bytes())
    tracker = read_lineage(loaded)
    assert tracker is not None
    name = f"{loaded.name}@{loaded.version}"
    (edge,) = tracker.parents(name)
    assert edge.relation is LineageRelation.ConvertedFrom
    (source,) = tracker.ancestors(name)
    assert source.name == "weights.npz"
    assert source.digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    info = tracker.provenance(name)
    assert info is not None
    assert info.creation_time.isoformat() == "2026-01-01T00:00:00+00:00"
    assert info.build_environment["numpy_version"] == np.__version__
    assert info.build_environment["migration_tool"].startswith("torsh ")
    assert FormatConverter().convert_from_npz(path).to_bytes() == converted.to_bytes()
