"""Lineage inside packages, signed provenance, and exports read by other tools."""

import dataclasses
import datetime as dt
import hashlib
import json
import re
from typing import Any

import numpy as np
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from prov.model import ProvActivity, ProvDerivation, ProvDocument, ProvEntity

from torsh_package import (
    DependencySpec,
    LineageRelation,
    LineageTracker,
    Package,
    PackageSigner,
    ProvenanceInfo,
    ResourceType,
    serialize_package,
)
from torsh_package.canonical_json import dumps
from torsh_package.entrypoints import EntryPoint, TensorSignature
from torsh_package.errors import InvalidArgumentError, LineageError, SignatureError
from torsh_package.lineage import (
    Artifact,
    BuildProvenance,
    EqualityVerdict,
    ModelCard,
    Source,
    attest,
    embed_lineage,
    embed_sbom,
    read_lineage,
    record_origin,
    to_cyclonedx,
    to_dot,
    to_prov,
    verified_provenance,
)
from torsh_package.trust.dsse import dump_envelopes, load_envelopes

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
SOURCE = Artifact("resnet.pt", "sha256:" + "ab" * 32)


def make() -> Package:
    package = Package("acme/resnet", "1.2.0")
    package.set_description("A test")
    package.set_author("Jane")
    package.license = "Apache-2.0"
    package.add_resource("weights", {"w": np.arange(6, dtype="f4")}, ResourceType.ModelWeights)
    package.add_resource("model", b"program", ResourceType.Model)
    package.add_resource("config", "{}", ResourceType.Config)
    package.add_dependency(DependencySpec("torsh-nn", "^0.1.0", optional=True, features=["x"]))
    package.add_dependency(DependencySpec("numpy", ">=1.26", kind="pip"))
    return package


def graph() -> LineageTracker:
    tracker = LineageTracker()
    tracker.add_lineage('ima"ge\\net', SOURCE, LineageRelation.TrainedOn, 'say "hi"')
    tracker.add_lineage(SOURCE, "torsh", LineageRelation.ConvertedFrom, "line\nbreak")
    tracker.add_lineage("torsh", "torsh-2", LineageRelation.VersionOf)
    tracker.record_provenance(
        ProvenanceInfo("torsh", "migration tool", NOON, "https://x", "c0ffee", {"torch": "2.13"})
    )
    return tracker


def test_dot():
    text = to_dot(graph())
    assert text.startswith("digraph lineage {")
    nodes = dict(re.findall(r'^  (n\d+) \[label="((?:[^"\\]|\\.)*)"\];$', text, re.M))
    edges = re.findall(r'^  (n\d+) -> (n\d+) \[label="([a-z-]+)"', text, re.M)
    assert len(text.splitlines()) == 3 + len(nodes) + len(edges) + 1
    spelled = {name: json.loads(f'"{label}"').split("\n")[0] for name, label in nodes.items()}
    assert [(spelled[s], spelled[t], r) for s, t, r in edges] == [
        ('ima"ge\\net', "resnet.pt", "trained-on"),
        ("resnet.pt", "torsh", "converted-from"),
        ("torsh", "torsh-2", "version-of"),
    ]


def test_prov_is_read_by_the_prov_library():
    tracker = graph()
    document = ProvDocument.deserialize(content=json.dumps(to_prov(tracker)), format="json")
    entities = {str(e.identifier): e.label for e in document.get_records(ProvEntity)}
    assert sorted(entities.values()) == sorted(a.label for a in tracker.artifacts())
    derived = [
        (entities[str(r.args[0])], entities[str(r.args[1])])
        for r in document.get_records(ProvDerivation)
    ]
    assert sorted(derived) == [
        ("resnet.pt", 'ima"ge\\net'),
        ("torsh", "resnet.pt"),
        ("torsh-2", "torsh"),
    ]
    activity: Any
    (activity,) = document.get_records(ProvActivity)
    assert activity.get_endTime() == NOON
    assert "c0ffee" in str(activity.attributes)
    assert document.get_provn().count("wasGeneratedBy") == 1


CARD = ModelCard(
    task="image-classification",
    architecture_family="convolutional",
    architecture="ResNet-50",
    datasets=["imagenet"],
    limitations=["photographs only"],
    use_cases=["sorting photographs"],
    ethical_considerations={"bias": "see the data sheet"},
    metrics={"top-1": "0.76"},
)
VERDICT = EqualityVerdict(True, 16, 0, 1.5e-6, 1e-5, "torch 2.13.0, float64")


def test_cyclonedx_is_valid_and_true():
    package = make()
    package.add_entrypoint(
        EntryPoint(
            "forward",
            program="model",
            inputs=(TensorSignature("x", "f32", ("batch", 784)),),
            outputs=(TensorSignature("y", "f32", ("batch", 10)),),
        )
    )
    record_origin(package, SOURCE, LineageRelation.ConvertedFrom, creator="torsh")
    bill = to_cyclonedx(package, card=CARD, equality=VERDICT)
    problems = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill))
    assert problems is None, problems
    main = bill["metadata"]["component"]  # type: ignore[index, call-overload]
    assert main["type"] == "machine-learning-model"  # type: ignore[index, call-overload]
    text = json.dumps(bill)
    for fact in ("forward:x f32[batch,784]", "resnet.pt", "ab" * 32, "pkg:pypi/numpy", "1.5e-06"):
        assert fact in text
    for resource in package.resources():
        assert hashlib.sha256(resource.data).hexdigest() in text
    assert to_cyclonedx(package, card=CARD, equality=VERDICT) == bill


def test_the_bare_bill_is_valid_too():
    package = Package("m", "1.0.0")
    problems = JsonStrictValidator(SchemaVersion.V1_6).validate_str(
        json.dumps(to_cyclonedx(package))
    )
    assert problems is None, problems


def test_bill_and_lineage_survive_in_the_package_under_its_signature():
    package, signer = make(), PackageSigner()
    record_origin(
        package,
        SOURCE,
        LineageRelation.ConvertedFrom,
        creator="torsh",
        source_url="https://example.org/resnet.pt",
        settings={"opset": "20"},
    )
    embed_sbom(package, to_cyclonedx(package))
    package.set_signature(signer.sign(serialize_package(package)))
    loaded = Package.load(package.to_bytes(), trust=signer.store())
    tracker = read_lineage(loaded)
    assert tracker is not None
    digest = hashlib.sha256(serialize_package(loaded)).hexdigest()
    assert tracker.ancestors(f"sha256:{digest}") == [SOURCE]
    info = tracker.provenance("acme/resnet@1.2.0")
    assert info is not None
    assert info.build_environment["opset"] == "20"
    assert "torch" in info.build_environment
    assert loaded.sbom == "bom.cdx.json"
    assert json.loads(loaded.get_document("bom.cdx.json").text())["bomFormat"] == "CycloneDX"


def test_lineage_of_a_chain_of_packages():
    first = make()
    record_origin(first, SOURCE, LineageRelation.ConvertedFrom, creator="torsh")
    before = read_lineage(first)
    assert before is not None
    second = Package("acme/small", "1.0.0")
    key = before.find("acme/resnet@1.2.0")
    assert key is not None
    record_origin(
        second, key, LineageRelation.QuantizedFrom, creator="torsh", source_lineage=before
    )
    tracker = read_lineage(second)
    assert tracker is not None
    names = [artifact.label for artifact in tracker.ancestors("acme/small@1.0.0")]
    assert names == ["acme/resnet@1.2.0", "resnet.pt"]


def test_a_lineage_must_speak_of_its_package():
    with pytest.raises(InvalidArgumentError, match=r"acme/resnet@1\.2\.0"):
        embed_lineage(make(), graph())
    assert read_lineage(make()) is None


BUILD = BuildProvenance(
    action="convert",
    sources=(Source("resnet.pt", SOURCE.digest or "", "https://example.org/resnet.pt"),),
    parameters={"opset": "20"},
    tools={"torch": "2.13.0"},
    started=NOON,
    finished=NOON,
    equality=VERDICT,
)


def test_signed_provenance():
    package, builder = make(), PackageSigner()
    manifest = serialize_package(package)
    package.set_signature(builder.sign(manifest))
    package.set_signature(attest(manifest, BUILD, builder.private_key))
    loaded = Package.load(package.to_bytes(), trust=builder.store())
    assert verified_provenance(manifest, loaded.signatures, builder.store()) == [BUILD]
    assert verified_provenance(manifest, loaded.signatures, PackageSigner().store()) == []
    assert verified_provenance(manifest, None, builder.store()) == []
    revoked = builder.store().revoke(builder.public_key.key_id)
    assert verified_provenance(manifest, loaded.signatures, revoked) == []


def test_the_predicate_is_slsa_provenance_v1():
    statement = json.loads(attest(b"{}", BUILD, PackageSigner().private_key).envelope.payload)
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"][0]["digest"]["sha256"] == hashlib.sha256(b"{}").hexdigest()
    predicate = statement["predicate"]
    (source,) = predicate["buildDefinition"]["resolvedDependencies"]
    assert source["digest"]["sha256"] == "ab" * 32
    assert predicate["runDetails"]["builder"]["version"] == {"torch": "2.13.0"}
    assert predicate["torsh_equality"] == {
        "equal": True,
        "inputs": 16,
        "seed": 0,
        "maxError": "1.5e-06",
        "tolerance": "1e-05",
        "reference": "torch 2.13.0, float64",
    }


def test_in_toto_reads_statement_and_predicate():
    """The protobuf definitions of in-toto accept every field; the verdict is our extension."""
    payload = attest(b"{}", BUILD, PackageSigner().private_key).envelope.payload
    parsed = json_format.Parse(payload, statement_pb2.Statement())
    Statement.copy_from_pb(parsed).validate()
    predicate = json.loads(payload)["predicate"]
    del predicate["torsh_equality"]
    provenance = json_format.ParseDict(predicate, provenance_pb2.Provenance())
    (source,) = provenance.build_definition.resolved_dependencies
    assert source.digest["sha256"] == "ab" * 32
    assert provenance.run_details.metadata.started_on.ToDatetime(dt.UTC) == NOON


def test_forged_provenance_is_refused():
    builder = PackageSigner()
    manifest, other = serialize_package(make()), dumps({"name": "x"})
    pasted = attest(other, BUILD, builder.private_key).to_bytes()
    with pytest.raises(SignatureError, match="another package"):
        verified_provenance(manifest, pasted, builder.store())
    (envelope,) = load_envelopes(attest(manifest, BUILD, builder.private_key).to_bytes())
    changed = dataclasses.replace(envelope, payload=envelope.payload.replace(b"1e-05", b"1e+05"))
    with pytest.raises(SignatureError, match="does not verify"):
        verified_provenance(manifest, dump_envelopes([changed]), builder.store())
    predicate = dataclasses.replace(BUILD.statement(manifest), predicate={})
    bad = dump_envelopes([predicate.envelope().signed(builder.private_key)])
    with pytest.raises(LineageError, match="malformed"):
        verified_provenance(manifest, bad, builder.store())


def test_a_verdict_cannot_contradict_its_numbers():
    with pytest.raises(InvalidArgumentError, match="contradicts"):
        EqualityVerdict(True, 16, 0, 1e-3, 1e-5, "torch")
    with pytest.raises(InvalidArgumentError, match="must be numbers"):
        EqualityVerdict(True, 16, 0, float("nan"), 1e-5, "torch")
