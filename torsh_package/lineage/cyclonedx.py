"""CycloneDX 1.6 machine-learning bill of materials (https://cyclonedx.org/docs/1.6/json)."""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from urllib.parse import quote

from torsh_package.canonical_json import JsonObject, JsonValue, dumps
from torsh_package.entrypoints import TensorSignature
from torsh_package.lineage.artifact import Artifact
from torsh_package.lineage.embed import package_id, read_lineage
from torsh_package.lineage.provenance import EqualityVerdict
from torsh_package.lineage.tracker import LineageTracker
from torsh_package.manifest import ResourceType
from torsh_package.package import Package
from torsh_package.requirement_syntax import DependencySpec
from torsh_package.resource import Resource

SBOM_DOCUMENT = "bom.cdx.json"
MEDIA_TYPE = "application/vnd.cyclonedx+json"

_NAMESPACE = uuid.UUID("8d5f3f6e-8d0c-5a1c-9f6e-2f1f6f0c7d11")
_DATA_TYPES = {
    ResourceType.Data: "dataset",
    ResourceType.Config: "configuration",
    ResourceType.Source: "source-code",
}


@dataclass(frozen=True)
class ModelCard:
    """What people should know of a model; every field may stay empty.

    Args:
        task: `image-classification`, ...
        architecture_family: `convolutional`, `transformer`, ...
        architecture: `ResNet-50`, ...
        datasets: Names of what it was trained on.
        limitations: What it cannot do.
        use_cases: What it is meant for.
        ethical_considerations: Risk to how it is mitigated.
        metrics: Name to value, as text.
    """

    task: str = ""
    architecture_family: str = ""
    architecture: str = ""
    datasets: Sequence[str] = ()
    limitations: Sequence[str] = ()
    use_cases: Sequence[str] = ()
    ethical_considerations: Mapping[str, str] = field(default_factory=dict[str, str])
    metrics: Mapping[str, str] = field(default_factory=dict[str, str])


def to_cyclonedx(
    package: Package,
    *,
    card: ModelCard | None = None,
    equality: EqualityVerdict | None = None,
    lineage: LineageTracker | None = None,
) -> JsonObject:
    """The bill of materials of a package: its resources with SHA-256, requirements and ancestry.

    It holds no time of its own, so equal packages have equal bills.

    Args:
        package: Content is read once, for the digests.
        card: What people should know.
        equality: How the model was compared with its source.
        lineage: Where it came from; what the package itself holds, if None.
    """
    if lineage is None:
        lineage = read_lineage(package)
    resources = [_resource(resource) for resource in package.resources()]
    requirements = [_requirement(spec) for spec in package.dependencies]
    main = _main(package, card or ModelCard(), equality, lineage)
    parts: list[JsonValue] = [*resources, *requirements]
    refs: list[JsonValue] = [part["bom-ref"] for part in (*resources, *requirements)]
    serial = uuid.uuid5(_NAMESPACE, dumps([main, *parts]).decode())
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"tools": {"components": [_tool()]}, "component": main},
        "components": parts,
        "dependencies": [{"ref": main["bom-ref"], "dependsOn": refs}],
    }


def embed_sbom(package: Package, bill: JsonObject) -> None:
    """Put a bill of materials (`to_cyclonedx`) into a package; its signature then covers it."""
    package.set_document(SBOM_DOCUMENT, dumps(bill), MEDIA_TYPE)
    package.sbom = SBOM_DOCUMENT


def _tool() -> JsonObject:
    return {"type": "application", "name": "torsh-package", "version": _version()}


def _version() -> str:
    try:
        return metadata.version("torsh")
    except metadata.PackageNotFoundError:
        return "0"  # run from a source tree


def _purl(kind: str, name: str, version: str | None = None) -> str:
    suffix = f"@{quote(version, safe='')}" if version else ""
    return f"pkg:{kind}/{quote(name, safe='/')}{suffix}"


def _main(
    package: Package,
    card: ModelCard,
    equality: EqualityVerdict | None,
    lineage: LineageTracker | None,
) -> JsonObject:
    purl = _purl("generic", package.name, package.version)
    component: JsonObject = {
        "type": "machine-learning-model",
        "bom-ref": purl,
        "name": package.name,
        "version": package.version,
        "purl": purl,
        "modelCard": _card(package, card, equality),
    }
    if package.description:
        component["description"] = package.description
    if package.authors:
        component["authors"] = [{"name": name} for name in package.authors]
    if package.license is not None:
        component["licenses"] = [{"expression": package.license}]
    ancestors = _ancestors(package, lineage)
    if ancestors:
        component["pedigree"] = {"ancestors": ancestors}
    return component


def _ancestors(package: Package, lineage: LineageTracker | None) -> list[JsonValue]:
    if lineage is None or package_id(package) not in lineage:
        return []
    return [_ancestor(artifact) for artifact in lineage.ancestors(package_id(package))]


def _ancestor(artifact: Artifact) -> JsonObject:
    component: JsonObject = {"type": "machine-learning-model", "name": artifact.label}
    if artifact.digest is not None:
        digest = artifact.digest.removeprefix("sha256:")
        component["hashes"] = [{"alg": "SHA-256", "content": digest}]
    return component


def _card(package: Package, card: ModelCard, equality: EqualityVerdict | None) -> JsonObject:
    inputs: list[JsonValue] = []
    outputs: list[JsonValue] = []
    for point in package.entrypoints.values():
        inputs.extend({"format": _signature(point.name, one)} for one in point.inputs)
        outputs.extend({"format": _signature(point.name, one)} for one in point.outputs)
    parameters: JsonObject = {"inputs": inputs, "outputs": outputs}
    for key, value in (
        ("task", card.task),
        ("architectureFamily", card.architecture_family),
        ("modelArchitecture", card.architecture),
    ):
        if value:
            parameters[key] = value
    if card.datasets:
        parameters["datasets"] = [{"type": "dataset", "name": name} for name in card.datasets]
    found: JsonObject = {"modelParameters": parameters}
    metrics = dict(card.metrics)
    if equality is not None:
        metrics["conversion.maxError"] = repr(equality.max_error)
        metrics["conversion.tolerance"] = repr(equality.tolerance)
    if metrics:
        listed: list[JsonValue] = [{"type": k, "value": v} for k, v in sorted(metrics.items())]
        found["quantitativeAnalysis"] = {"performanceMetrics": listed}
    considerations = _considerations(card)
    if considerations:
        found["considerations"] = considerations
    return found


def _considerations(card: ModelCard) -> JsonObject:
    found: JsonObject = {}
    if card.limitations:
        found["technicalLimitations"] = list(card.limitations)
    if card.use_cases:
        found["useCases"] = list(card.use_cases)
    if card.ethical_considerations:
        found["ethicalConsiderations"] = [
            {"name": name, "mitigationStrategy": text}
            for name, text in sorted(card.ethical_considerations.items())
        ]
    return found


def _signature(entry_point: str, tensor: TensorSignature) -> str:
    shape = ",".join(map(str, tensor.shape))
    return f"{entry_point}:{tensor.name} {tensor.dtype}[{shape}]"


def _resource(resource: Resource) -> JsonObject:
    digest = hashlib.sha256()
    for piece in resource.pieces():
        digest.update(piece)
    component: JsonObject = {
        "type": "file",
        "bom-ref": f"resource:{resource.name}",
        "name": resource.name,
        "mime-type": resource.media_type,
        "hashes": [{"alg": "SHA-256", "content": digest.hexdigest()}],
        "properties": [
            {"name": "torsh:type", "value": resource.type.value},
            {"name": "torsh:bytes", "value": str(resource.size)},
        ],
    }
    if resource.type in _DATA_TYPES:
        component["type"] = "data"
        component["data"] = [{"type": _DATA_TYPES[resource.type], "name": resource.name}]
    return component


def _requirement(spec: DependencySpec) -> JsonObject:
    kind = "pypi" if spec.kind == "pip" else "generic"
    facts = {"torsh:requirement": spec.version_req, "torsh:kind": spec.kind}
    if spec.features:
        facts["torsh:features"] = ",".join(spec.features)
    if spec.platform:
        facts["torsh:platform"] = spec.platform
    return {
        "type": "library",
        "bom-ref": f"requirement:{spec.kind}:{spec.name}",
        "name": spec.name,
        "purl": _purl(kind, spec.name),
        "scope": "optional" if spec.optional else "required",
        "properties": [{"name": name, "value": value} for name, value in facts.items()],
    }
