"""`LineageTracker`: a directed acyclic graph of artifacts, keyed by content digest."""

import os
from collections import deque
from collections.abc import Iterable, Iterator

from torsh_package.canonical_json import JsonObject, dumps, loads
from torsh_package.errors import LimitError, LineageError, PackageError, UnsupportedVersionError
from torsh_package.lineage.artifact import Artifact, LineageEdge, LineageRelation, ProvenanceInfo
from torsh_package.schema import Fields
from torsh_package.small_files import read_file, replace_file

SCHEMA = 1
MAX_LINEAGE_BYTES = 64 << 20
MAX_EDGES = 100_000
_FORMAT = "torshpkg-lineage"


class LineageTracker:
    """Which artifact came out of which, and how each was made.

    Artifacts are named by strings. As soon as the digest of one is known (`identify`), the digest
    is what identifies it; names are then only labels, and two names of one content are one node.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, Artifact] = {}
        self._aliases: dict[str, str] = {}
        self._edges: dict[tuple[str, str, LineageRelation], LineageEdge] = {}
        self._children: dict[str, set[str]] = {}
        self._parents: dict[str, set[str]] = {}
        self._provenance: dict[str, ProvenanceInfo] = {}

    # Building

    def add_lineage(
        self,
        source: Artifact | str,
        target: Artifact | str,
        relation: LineageRelation,
        description: str = "",
    ) -> LineageEdge:
        """Record that `target` came out of `source`.

        Args:
            source: Name, `sha256:<hex>`, or an `Artifact` with both.
            target: Likewise.
            relation: How.
            description: For people.

        Raises:
            LineageError: The two are one artifact, the edge would close a cycle, or it contradicts
                what is recorded. No relation is added then.
        """
        for value in (source, target):
            self._adopt(Artifact.of(value))
        start, end = self._peek(source), self._peek(target)
        if start == end:
            raise LineageError(f"{Artifact.of(source).label} cannot come out of itself")
        if self._reaches(end, start):
            chain = " -> ".join(self._label(key) for key in self._path(end, start))
            raise LineageError(
                f"{Artifact.of(target).label} cannot come out of {Artifact.of(source).label}: "
                f"that would close a cycle, {chain}"
            )
        if len(self._edges) >= MAX_EDGES:
            raise LimitError(f"a lineage has at most {MAX_EDGES} relations")
        known = self._edges.get((start, end, relation))
        if known is not None and known.description != description:
            raise LineageError(
                f"{known.target} is already {relation.value} {known.source}: {known.description!r}"
            )
        edge = LineageEdge(self._node(source), self._node(target), relation, description)
        self._put(edge)
        return edge

    def identify(self, name: str, digest: str) -> Artifact:
        """Say what content a name stands for; from now on the digest identifies it.

        Args:
            name: Of an artifact, known or not.
            digest: `sha256:<hex>`.

        Raises:
            LineageError: The name already stands for other content, or merging the two nodes
                would close a cycle.
        """
        artifact = Artifact(name, digest)
        old = self._aliases.get(name)
        if old is not None and old.startswith("sha256:") and old != digest:
            raise LineageError(f"{name} already stands for {old[:19]}..., not {digest[:19]}...")
        if old is not None and old != digest:
            self._rename(old, digest, artifact)
        self._node(artifact)
        return self._nodes[digest]

    def record_provenance(self, provenance: ProvenanceInfo) -> None:
        """Record how a package was made.

        Raises:
            LineageError: Something else is recorded for it.
        """
        key = self._peek(provenance.package_id)
        known = self._provenance.get(key)
        if known is not None and known != provenance:
            raise LineageError(f"the provenance of {provenance.package_id} is already recorded")
        self._provenance[self._node(provenance.package_id)] = provenance

    def merge(self, other: "LineageTracker") -> None:
        """Take in another graph; `LineageError` if the two contradict each other."""
        for name, key in other._aliases.items():
            if key.startswith("sha256:"):
                self.identify(name, key)
        for edge in other.edges():
            source, target = other._nodes[edge.source], other._nodes[edge.target]
            self.add_lineage(source, target, edge.relation, edge.description)
        for provenance in other._provenance.values():
            self.record_provenance(provenance)

    # Queries

    def artifacts(self) -> list[Artifact]:
        """All artifacts, sources before what came out of them, by name among equals."""
        waiting = {key: len(self._parents.get(key, ())) for key in self._nodes}
        ready = sorted((key for key, count in waiting.items() if not count), key=self._order)
        found: list[Artifact] = []
        while ready:
            found.extend(self._nodes[key] for key in ready)
            following: list[str] = []
            for key in ready:
                for child in self._children.get(key, ()):
                    waiting[child] -= 1
                    if not waiting[child]:
                        following.append(child)
            ready = sorted(following, key=self._order)
        return found

    def edges(self) -> list[LineageEdge]:
        """All relations, in the order of their artifacts."""
        return sorted(
            self._edges.values(),
            key=lambda edge: (
                self._order(edge.source),
                self._order(edge.target),
                edge.relation.value,
            ),
        )

    def find(self, artifact: Artifact | str) -> Artifact | None:
        """The artifact of a name or digest, None if it is not in the graph."""
        return self._nodes.get(self._peek(artifact))

    def provenance(self, artifact: Artifact | str) -> ProvenanceInfo | None:
        """How a package was made, if that was recorded."""
        return self._provenance.get(self._peek(artifact))

    def parents(self, artifact: Artifact | str) -> list[LineageEdge]:
        """The relations that end at an artifact."""
        key = self._known(artifact)
        return [edge for edge in self.edges() if edge.target == key]

    def children(self, artifact: Artifact | str) -> list[LineageEdge]:
        """The relations that start at an artifact."""
        key = self._known(artifact)
        return [edge for edge in self.edges() if edge.source == key]

    def ancestors(self, artifact: Artifact | str, depth: int | None = None) -> list[Artifact]:
        """Everything an artifact came out of, nearest first, up to `depth` steps away."""
        return self._walk(self._known(artifact), self._parents, depth)

    def descendants(self, artifact: Artifact | str, depth: int | None = None) -> list[Artifact]:
        """Everything that came out of an artifact, nearest first, up to `depth` steps away."""
        return self._walk(self._known(artifact), self._children, depth)

    def path(self, source: Artifact | str, target: Artifact | str) -> list[Artifact] | None:
        """A shortest chain from `source` to `target`, both included, or None."""
        start, end = self._known(source), self._known(target)
        keys = self._path(start, end)
        return [self._nodes[key] for key in keys] if keys else None

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, artifact: object) -> bool:
        return isinstance(artifact, Artifact | str) and self.find(artifact) is not None

    # Files

    def to_json(self) -> JsonObject:
        """The JSON form; equal graphs give equal text."""
        ordered = sorted(self._provenance.items())
        return {
            "format": _FORMAT,
            "schema": SCHEMA,
            "artifacts": [
                node.to_json() for node in sorted(self._nodes.values(), key=lambda n: n.key)
            ],
            "aliases": {n: k for n, k in sorted(self._aliases.items()) if k.startswith("sha256:")},
            "relations": [edge.to_json() for edge in self.edges()],
            "provenance": [info.to_json() for _, info in ordered],
        }

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return dumps(self.to_json())

    @classmethod
    def parse(cls, data: bytes) -> "LineageTracker":
        """Read a graph; `LineageError` if it is malformed, contradictory or has a cycle."""
        try:
            return _read(data)
        except UnsupportedVersionError:
            raise
        except LineageError:
            raise
        except PackageError as error:
            raise LineageError(f"lineage is malformed: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Replace a lineage file atomically."""
        replace_file(path, self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "LineageTracker":
        """Read a lineage file."""
        return cls.parse(read_file(path, MAX_LINEAGE_BYTES))

    def restore(self, artifacts: Iterable[Artifact], relations: Iterable[LineageEdge]) -> None:
        """Take in nodes and edges that were written by `to_json`, and check them as a whole.

        Checking each edge on its own, as `add_lineage` does, takes quadratic time.

        Raises:
            LineageError: An edge names an unknown artifact, or there is a cycle.
        """
        for artifact in artifacts:
            self._node(artifact)
        for edge in relations:
            for key in (edge.source, edge.target):
                if key not in self._nodes:
                    raise LineageError(f"a relation names {key[:80]!r}, which is no artifact")
            self._put(edge)
        if len(self.artifacts()) != len(self._nodes):
            raise LineageError("the lineage has a cycle")

    # Inside

    def _peek(self, value: Artifact | str) -> str:
        """The key that a value has or would get, without adding anything."""
        artifact = Artifact.of(value)
        if artifact.digest is not None:
            return artifact.digest
        return self._aliases.get(artifact.name, artifact.key)

    def _known(self, value: Artifact | str) -> str:
        key = self._peek(value)
        if key not in self._nodes:
            raise LineageError(f"{Artifact.of(value).label} is not in the lineage")
        return key

    def _node(self, value: Artifact | str) -> str:
        """The key of a value, which is in the graph afterwards."""
        artifact = Artifact.of(value)
        self._adopt(artifact)
        key = self._peek(artifact)
        known = self._nodes.get(key)
        if known is None or (not known.name and artifact.name):
            self._nodes[key] = Artifact(artifact.name, key if artifact.digest else None)
        if artifact.name:
            self._aliases[artifact.name] = key
        return key

    def _adopt(self, artifact: Artifact) -> None:
        """Identify a known name that comes with its digest for the first time."""
        if artifact.digest is None or not artifact.name:
            return
        old = self._aliases.get(artifact.name)
        if old is not None and old != artifact.digest:
            self.identify(artifact.name, artifact.digest)

    def _put(self, edge: LineageEdge) -> None:
        self._edges[edge.source, edge.target, edge.relation] = edge
        self._children.setdefault(edge.source, set()).add(edge.target)
        self._parents.setdefault(edge.target, set()).add(edge.source)

    def _rename(self, old: str, new: str, artifact: Artifact) -> None:
        """Turn the node `old` into `new`, which may exist already."""
        if new in self._nodes and (self._reaches(old, new) or self._reaches(new, old)):
            raise LineageError(
                f"{artifact.name} cannot be {new[:19]}...: it comes out of it, or it out of it"
            )
        moved = [edge for edge in self._edges.values() if old in (edge.source, edge.target)]
        for edge in moved:
            del self._edges[edge.source, edge.target, edge.relation]
        for table in (self._children, self._parents):
            table.pop(old, None)
            for linked in table.values():
                linked.discard(old)
        self._nodes.pop(old)
        self._nodes.setdefault(new, artifact)
        self._aliases = {n: new if k == old else k for n, k in self._aliases.items()}
        if old in self._provenance:
            self._provenance[new] = self._provenance.pop(old)
        for edge in moved:
            source = new if edge.source == old else edge.source
            target = new if edge.target == old else edge.target
            self._put(LineageEdge(source, target, edge.relation, edge.description))

    def _walk(self, start: str, links: dict[str, set[str]], depth: int | None) -> list[Artifact]:
        seen, level, found = {start}, [start], list[Artifact]()
        while level and (depth is None or depth > 0):
            following = {child for key in level for child in links.get(key, ())} - seen
            level = sorted(following, key=self._order)
            seen |= following
            found.extend(self._nodes[key] for key in level)
            depth = None if depth is None else depth - 1
        return found

    def _reaches(self, start: str, end: str) -> bool:
        seen, waiting = {start}, [start]
        while waiting:
            key = waiting.pop()
            if key == end:
                return True
            following = self._children.get(key, set()) - seen
            seen |= following
            waiting.extend(following)
        return False

    def _path(self, start: str, end: str) -> list[str]:
        came: dict[str, str | None] = {start: None}
        waiting = deque([start])
        while waiting and end not in came:
            key = waiting.popleft()
            for following in sorted(self._children.get(key, ()), key=self._order):
                if following not in came:
                    came[following] = key
                    waiting.append(following)
        return list(_backwards(came, end))[::-1] if end in came else []

    def _label(self, key: str) -> str:
        return self._nodes[key].label

    def _order(self, key: str) -> tuple[str, str]:
        return self._nodes[key].name, key


def _backwards(came: "dict[str, str | None]", end: str) -> Iterator[str]:
    key: str | None = end
    while key is not None:
        yield key
        key = came[key]


def _read(data: bytes) -> LineageTracker:
    text = loads(data, entry="lineage", limit=MAX_LINEAGE_BYTES)
    fields = Fields(text, "lineage")
    fields.choice("format", frozenset({_FORMAT}))
    schema = fields.integer("schema")
    if schema != SCHEMA:
        raise UnsupportedVersionError(f"lineage schema {schema}; this reader knows {SCHEMA}")
    artifacts = fields.items("artifacts", 2 * MAX_EDGES, Artifact.from_fields)
    aliases = fields.nested("aliases")
    relations = fields.items("relations", MAX_EDGES, LineageEdge.from_fields)
    provenance = fields.items("provenance", 2 * MAX_EDGES, ProvenanceInfo.from_fields)
    fields.end()
    tracker = LineageTracker()
    for name in sorted(aliases.left):
        tracker.identify(name, aliases.string(name))
    tracker.restore(artifacts, relations)
    for info in provenance:
        tracker.record_provenance(info)
    return tracker
