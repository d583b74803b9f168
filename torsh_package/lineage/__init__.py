"""Lineage: which artifact came out of which, how it was built, and who attests to it."""

from torsh_package.lineage.artifact import (
    Artifact,
    LineageEdge,
    LineageRelation,
    ProvenanceInfo,
    tool_versions,
)
from torsh_package.lineage.cyclonedx import ModelCard, embed_sbom, to_cyclonedx
from torsh_package.lineage.embed import embed_lineage, package_id, read_lineage, record_origin
from torsh_package.lineage.exports import to_dot, to_prov
from torsh_package.lineage.provenance import (
    Attestation,
    BuildProvenance,
    EqualityVerdict,
    Source,
    attest,
    verified_provenance,
)
from torsh_package.lineage.tracker import LineageTracker

__all__ = [
    "Artifact",
    "Attestation",
    "BuildProvenance",
    "EqualityVerdict",
    "LineageEdge",
    "LineageRelation",
    "LineageTracker",
    "ModelCard",
    "ProvenanceInfo",
    "Source",
    "attest",
    "embed_lineage",
    "embed_sbom",
    "package_id",
    "read_lineage",
    "record_origin",
    "to_cyclonedx",
    "to_dot",
    "to_prov",
    "tool_versions",
    "verified_provenance",
]
