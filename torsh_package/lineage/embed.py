"""Lineage inside a package: the document `dependencies/lineage.json`, which the manifest binds."""

import hashlib

from torsh_package.errors import InvalidArgumentError
from torsh_package.lineage.artifact import Artifact, LineageRelation, ProvenanceInfo
from torsh_package.lineage.tracker import LineageTracker
from torsh_package.package import Package, serialize_package

LINEAGE_DOCUMENT = "lineage.json"


def package_id(package: Package) -> str:
    """The name under which a package stands in its own lineage.

    Its digest cannot stand there: the lineage is part of what the digest is over.
    """
    return f"{package.name}@{package.version}"


def embed_lineage(package: Package, tracker: LineageTracker) -> None:
    """Put a lineage into a package; a signature of the package then covers it.

    Raises:
        InvalidArgumentError: The lineage does not speak of the package (`package_id`).
    """
    if package_id(package) not in tracker:
        raise InvalidArgumentError(f"the lineage does not speak of {package_id(package)}")
    package.set_document(LINEAGE_DOCUMENT, tracker.to_bytes())
    package.lineage = LINEAGE_DOCUMENT


def read_lineage(package: Package) -> LineageTracker | None:
    """The lineage of a package, in which the package now has its digest; None if it has none."""
    if package.lineage is None:
        return None
    tracker = LineageTracker.parse(bytes(package.get_document(package.lineage).data))
    digest = hashlib.sha256(serialize_package(package)).hexdigest()
    tracker.identify(package_id(package), f"sha256:{digest}")
    return tracker


def record_origin(
    package: Package,
    source: Artifact,
    relation: LineageRelation,
    *,
    creator: str,
    source_url: str | None = None,
    source_commit: str | None = None,
    settings: dict[str, str] | None = None,
    description: str = "",
    source_lineage: LineageTracker | None = None,
) -> LineageTracker:
    """Record what a package was made from, with the tools of this moment; converters call it.

    Args:
        package: The new package; lineage that it has already is kept.
        source: What it was made from, with its digest.
        relation: How.
        creator: Tool or person.
        source_url: Where the source was taken from.
        source_commit: Revision of it.
        settings: Further facts of the build environment.
        description: For people.
        source_lineage: Where the source itself came from.

    Returns:
        The lineage that is now in the package.
    """
    tracker = LineageTracker()
    if package.lineage is not None:
        tracker = LineageTracker.parse(bytes(package.get_document(package.lineage).data))
    if source_lineage is not None:
        tracker.merge(source_lineage)
    tracker.add_lineage(source, package_id(package), relation, description)
    tracker.record_provenance(
        ProvenanceInfo.capture(
            package_id(package),
            creator,
            source_url=source_url,
            source_commit=source_commit,
            settings=settings,
            description=description,
        )
    )
    embed_lineage(package, tracker)
    return tracker
