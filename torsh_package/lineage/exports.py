"""A lineage graph for other tools: Graphviz DOT and W3C PROV-JSON."""

import json

from torsh_package.canonical_json import JsonObject, JsonValue
from torsh_package.lineage.artifact import Artifact, LineageRelation
from torsh_package.lineage.tracker import LineageTracker
from torsh_package.times import format_time

_NAMESPACE = "https://torsh.dev/lineage/"
# PROV-DM, section 5.2.4: revision and primary source are the subtypes it defines.
_PROV_TYPES = {
    LineageRelation.VersionOf: "prov:Revision",
    LineageRelation.CopyOf: "prov:PrimarySource",
}


def to_dot(tracker: LineageTracker) -> str:
    """The graph in the DOT language, sources above what came out of them."""
    lines = ["digraph lineage {", "  rankdir=TB;", "  node [shape=box];"]
    ids = {artifact.key: f"n{index}" for index, artifact in enumerate(tracker.artifacts())}
    for artifact in tracker.artifacts():
        digest = f"\n{artifact.digest[:19]}" if artifact.digest else ""
        lines.append(f"  {ids[artifact.key]} [label={_quoted(artifact.label + digest)}];")
    for edge in tracker.edges():
        attributes = f"label={_quoted(edge.relation.value)}"
        if edge.description:
            attributes += f", tooltip={_quoted(edge.description)}"
        lines.append(f"  {ids[edge.source]} -> {ids[edge.target]} [{attributes}];")
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def to_prov(tracker: LineageTracker) -> JsonObject:
    """The graph in PROV-JSON (W3C member submission 2013-04-24).

    Artifacts are entities, relations are derivations, recorded provenance is a generating activity
    with its agent.
    """
    artifacts = tracker.artifacts()
    ids = {artifact.key: f"torsh:{_local(artifact)}" for artifact in artifacts}
    entities: JsonObject = {ids[artifact.key]: _entity(artifact) for artifact in artifacts}
    derivations: JsonObject = {}
    for index, edge in enumerate(tracker.edges()):
        derivation: JsonObject = {
            "prov:generatedEntity": ids[edge.target],
            "prov:usedEntity": ids[edge.source],
            "torsh:relation": edge.relation.value,
            "torsh:description": edge.description,
        }
        if edge.relation in _PROV_TYPES:
            derivation["prov:type"] = {
                "$": _PROV_TYPES[edge.relation],
                "type": "prov:QUALIFIED_NAME",
            }
        derivations[f"_:derivation{index}"] = derivation
    document: JsonObject = {
        "prefix": {"torsh": _NAMESPACE},
        "entity": entities,
        "wasDerivedFrom": derivations,
    }
    return {**document, **_activities(tracker, ids)}


def _activities(tracker: LineageTracker, ids: dict[str, str]) -> JsonObject:
    activities: JsonObject = {}
    agents: JsonObject = {}
    generations: JsonObject = {}
    associations: JsonObject = {}
    for index, artifact in enumerate(tracker.artifacts()):
        info = tracker.provenance(artifact)
        if info is None:
            continue
        activity, agent = f"torsh:build{index}", f"torsh:agent-{_slug(info.creator)}"
        time = format_time(info.creation_time)
        facts: JsonObject = {"torsh:description": info.description}
        facts |= {f"torsh:{_slug(key)}": value for key, value in info.build_environment.items()}
        if info.source_url is not None:
            facts["torsh:sourceUrl"] = info.source_url
        if info.source_commit is not None:
            facts["torsh:sourceCommit"] = info.source_commit
        activities[activity] = {"prov:endTime": time, **facts}
        agents[agent] = {"prov:label": info.creator}
        generations[f"_:generation{index}"] = {
            "prov:entity": ids[artifact.key],
            "prov:activity": activity,
            "prov:time": time,
        }
        associations[f"_:association{index}"] = {"prov:activity": activity, "prov:agent": agent}
    found: JsonObject = {
        "activity": activities,
        "agent": agents,
        "wasGeneratedBy": generations,
        "wasAssociatedWith": associations,
    }
    return found if activities else {}


def _entity(artifact: Artifact) -> JsonObject:
    facts: JsonObject = {"prov:label": artifact.label}
    if artifact.digest is not None:
        facts["torsh:digest"] = artifact.digest
    return facts


def _local(artifact: Artifact) -> str:
    if artifact.digest is not None:
        return artifact.digest.replace(":", "-")
    return f"name-{_slug(artifact.name)}"


def _slug(text: str) -> str:
    """A local name that no two texts share: other characters become their code points."""
    return "".join(c if c.isascii() and c.isalnum() else f"_{ord(c):x}_" for c in text)


def to_text(value: JsonValue) -> str:
    """JSON for people and tools."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
