"""The lineage graph against networkx, its file form, and the snippet of guide B."""

import dataclasses
import datetime as dt
import json
import time

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torsh_package import LineageRelation, LineageTracker, ProvenanceInfo
from torsh_package.canonical_json import dumps
from torsh_package.errors import (
    LimitError,
    LineageError,
    PackageError,
    UnsupportedVersionError,
)
from torsh_package.lineage import Artifact, tool_versions

R = LineageRelation.DerivedFrom
NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def labels(artifacts: list[Artifact]) -> list[str]:
    return [artifact.label for artifact in artifacts]


def test_the_snippet_of_the_guide():
    """Guide B, "Lineage Tracking"."""
    tracker = LineageTracker()
    tracker.add_lineage(
        "pytorch-model-v1",
        "torsh-model-v1",
        LineageRelation.ConvertedFrom,
        "Migrated from PyTorch to ToRSh",
    )
    provenance = ProvenanceInfo(
        package_id="torsh-model-v1",
        creator="migration-tool",
        creation_time=dt.datetime.now(dt.UTC),
        source_url="original-pytorch-model-url",
        source_commit=None,
        build_environment={"migration_tool": "1.0.0", "pytorch_version": "2.0.0"},
        description="Migrated PyTorch model",
    )
    tracker.record_provenance(provenance)
    assert labels(tracker.ancestors("torsh-model-v1")) == ["pytorch-model-v1"]
    assert tracker.provenance("torsh-model-v1") == provenance
    (edge,) = tracker.edges()
    assert edge.relation is LineageRelation.ConvertedFrom


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=25))
def test_random_graphs_agree_with_networkx(pairs):
    tracker, graph = LineageTracker(), nx.DiGraph()
    for source, target in pairs:
        tried = graph.copy()
        tried.add_edge(source, target)
        if nx.is_directed_acyclic_graph(tried):
            tracker.add_lineage(f"m{source}", f"m{target}", R)
            graph = tried
        else:
            before = tracker.to_bytes()
            with pytest.raises(LineageError):
                tracker.add_lineage(f"m{source}", f"m{target}", R)
            assert tracker.to_bytes() == before
    for node in graph:
        name = f"m{node}"
        assert set(labels(tracker.ancestors(name))) == {f"m{a}" for a in nx.ancestors(graph, node)}
        below = {f"m{d}" for d in nx.descendants(graph, node)}
        assert set(labels(tracker.descendants(name))) == below
        lengths = nx.single_source_shortest_path_length(graph, node)
        for other, length in lengths.items():
            path = tracker.path(name, f"m{other}")
            assert path is not None
            assert len(path) == length + 1
    order = labels(tracker.artifacts())
    assert all(order.index(f"m{s}") < order.index(f"m{t}") for s, t in graph.edges)
    assert LineageTracker.parse(tracker.to_bytes()).to_bytes() == tracker.to_bytes()


def test_cycles_are_refused_with_the_chain():
    tracker = LineageTracker()
    tracker.add_lineage("a", "b", R)
    tracker.add_lineage("b", "c", R)
    with pytest.raises(LineageError, match="close a cycle, a -> b -> c"):
        tracker.add_lineage("c", "a", R)
    with pytest.raises(LineageError, match="a cannot come out of itself"):
        tracker.add_lineage("a", "a", R)
    assert len(tracker.edges()) == 2


def test_two_names_of_one_content_are_one_artifact():
    tracker = LineageTracker()
    tracker.add_lineage("base", "copy-one", R)
    tracker.add_lineage("copy-two", "fine-tuned", R)
    tracker.identify("copy-one", digest(1))
    tracker.identify("copy-two", digest(1))
    assert len(tracker) == 3
    assert labels(tracker.ancestors("fine-tuned")) == ["copy-one", "base"]
    assert tracker.find(digest(1)) == tracker.find("copy-two")
    with pytest.raises(LineageError, match="itself"):
        tracker.add_lineage("copy-one", "copy-two", R)
    with pytest.raises(LineageError, match="close a cycle"):
        tracker.add_lineage("fine-tuned", digest(1), R)


def test_a_name_stands_for_one_content():
    tracker = LineageTracker()
    tracker.identify("m", digest(1))
    with pytest.raises(LineageError, match="already stands for"):
        tracker.identify("m", digest(2))
    with pytest.raises(LineageError, match="already stands for"):
        tracker.add_lineage(Artifact("m", digest(2)), "n", R)


def test_merging_names_cannot_close_a_cycle():
    tracker = LineageTracker()
    tracker.add_lineage(Artifact("a", digest(1)), "b", R)
    tracker.add_lineage("b", "c", R)
    with pytest.raises(LineageError, match="cannot be"):
        tracker.identify("c", digest(1))
    assert labels(tracker.ancestors("c")) == ["b", "a"]


def test_a_digest_learned_late_keeps_edges_and_provenance():
    tracker = LineageTracker()
    tracker.add_lineage("a", "b", R, "x")
    tracker.record_provenance(ProvenanceInfo("b", "me", NOON))
    tracker.add_lineage(Artifact("b", digest(2)), "c", R)
    assert labels(tracker.ancestors("c")) == ["b", "a"]
    info = tracker.provenance(digest(2))
    assert info is not None
    assert info.creator == "me"


def test_depth_and_neighbours():
    tracker = LineageTracker()
    for source, target in ["ab", "bc", "cd", "ac"]:
        tracker.add_lineage(source, target, R)
    assert labels(tracker.descendants("a", depth=1)) == ["b", "c"]
    assert labels(tracker.ancestors("d", depth=2)) == ["c", "a", "b"]
    assert [edge.source for edge in tracker.parents("c")] == ["name:a", "name:b"]
    assert [edge.target for edge in tracker.children("a")] == ["name:b", "name:c"]
    assert tracker.path("d", "a") is None
    assert "a" in tracker
    assert "z" not in tracker
    with pytest.raises(LineageError, match="z is not in the lineage"):
        tracker.ancestors("z")


def test_contradictions_are_refused_and_repetition_is_not():
    tracker = LineageTracker()
    tracker.add_lineage("a", "b", R, "x")
    tracker.add_lineage("a", "b", R, "x")
    tracker.add_lineage("a", "b", LineageRelation.QuantizedFrom, "y")
    with pytest.raises(LineageError, match="already derived-from"):
        tracker.add_lineage("a", "b", R, "other")
    tracker.record_provenance(ProvenanceInfo("b", "me", NOON))
    tracker.record_provenance(ProvenanceInfo("b", "me", NOON))
    with pytest.raises(LineageError, match="already recorded"):
        tracker.record_provenance(ProvenanceInfo("b", "you", NOON))
    assert len(tracker.edges()) == 2


def test_graphs_merge():
    one, two = LineageTracker(), LineageTracker()
    one.add_lineage("a", Artifact("b", digest(1)), R)
    two.add_lineage(Artifact("bee", digest(1)), "c", R)
    two.record_provenance(ProvenanceInfo("c", "me", NOON))
    one.merge(two)
    assert labels(one.ancestors("c")) == ["b", "a"]
    assert one.provenance("c") is not None
    two.add_lineage("c", "a", R)
    with pytest.raises(LineageError, match="cycle"):
        one.merge(two)


def test_files(tmp_path):
    tracker = LineageTracker()
    tracker.add_lineage(Artifact("data set", digest(1)), "m", LineageRelation.TrainedOn, "é")
    tracker.record_provenance(ProvenanceInfo("m", "me", NOON, "https://x", "abc", {"k": "v"}, "d"))
    tracker.save(tmp_path / "lineage.json")
    again = LineageTracker.load(tmp_path / "lineage.json")
    assert again.to_bytes() == tracker.to_bytes()
    assert again.provenance("m") == tracker.provenance("m")


def _edited(**changes) -> bytes:
    tracker = LineageTracker()
    tracker.add_lineage("a", "b", R)
    return dumps(json.loads(tracker.to_bytes()) | changes)


def _edge(source: str, target: str, relation: str = "derived-from") -> dict[str, str]:
    return {"source": source, "target": target, "relation": relation, "description": ""}


MALFORMED = {
    "cycle": (_edited(relations=[_edge("name:a", "name:b"), _edge("name:b", "name:a")]), "cycle"),
    "self": (_edited(relations=[_edge("name:a", "name:a")]), "cycle"),
    "unknown artifact": (_edited(relations=[_edge("name:a", "name:z")]), "'name:z', which is no"),
    "unknown relation": (_edited(relations=[_edge("name:a", "name:b", "x")]), "'x' is unknown"),
    "bad digest": (_edited(artifacts=[{"name": "a", "digest": "md5:1"}]), "sha256:<64 hex"),
    "no name": (_edited(artifacts=[{"name": "", "digest": None}]), "a name or a digest"),
    "control characters": (_edited(artifacts=[{"name": "a\nb", "digest": None}]), "printable"),
    "alias of two": (_edited(aliases={"a": "name:b"}), "sha256:<64 hex"),
    "unknown field": (_edited(extra=1), "unknown field"),
    "not JSON": (b"{", "malformed"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files(case: str):
    data, message = MALFORMED[case]
    with pytest.raises(LineageError, match=message):
        LineageTracker.parse(data)


def test_newer_files_are_told_apart():
    with pytest.raises(UnsupportedVersionError, match="schema 2"):
        LineageTracker.parse(_edited(schema=2))


def test_a_hostile_chain_takes_no_quadratic_time():
    count = 20_000
    artifacts = [{"name": f"m{i}", "digest": None} for i in range(count)]
    relations = [_edge(f"name:m{i}", f"name:m{i + 1}") for i in range(count - 1)]
    data = _edited(artifacts=artifacts, relations=relations)
    start = time.process_time()
    tracker = LineageTracker.parse(data)
    assert time.process_time() - start < 5
    assert len(tracker.ancestors(f"m{count - 1}")) == count - 1


def test_too_many_relations():
    relations = [_edge("name:a", "name:b")] * 100_001
    with pytest.raises(LineageError, match="limit 100000"):
        LineageTracker.parse(_edited(relations=relations))
    assert issubclass(LimitError, PackageError)


def test_provenance_is_checked():
    with pytest.raises(LineageError, match="no time zone"):
        ProvenanceInfo("m", "me", dt.datetime(2026, 1, 1))
    with pytest.raises(LineageError, match="must be text"):
        ProvenanceInfo("m", "me", NOON, build_environment={"a": 1})  # type: ignore[dict-item]
    info = ProvenanceInfo.capture("m", "tool", settings={"opset": "20"})
    assert info.creation_time.tzinfo is not None
    assert info.build_environment.items() >= {**tool_versions(), "opset": "20"}.items()
    assert info.build_environment["python"].count(".") == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.creator = "x"  # type: ignore[misc]
