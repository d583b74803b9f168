"""Random lives of a package: whatever is done to it, saving and loading shows the same."""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from torsh_package import (
    CompressionAlgorithm,
    CompressionLevel,
    InvalidArgumentError,
    Package,
    ResourceType,
    serialize_package,
)
from torsh_package.digest import DigestSpec

NAMES = st.sampled_from(["a", "b", "A", "dir/a", "dir/b", "dir", "ü", "w.json", "w"])
ALGORITHMS = st.sampled_from(
    [CompressionAlgorithm.Store, CompressionAlgorithm.Gzip, CompressionAlgorithm.Zstd]
)
DATA = st.binary(max_size=60).flatmap(
    lambda unit: st.sampled_from([1, 50, 4000]).map(lambda n: unit * n)
)
DTYPES = st.sampled_from([np.uint8, np.float16, np.float32, np.int64])


class Life(RuleBasedStateMachine):
    """A package beside a plain dictionary that says what must be in it."""

    def __init__(self) -> None:
        super().__init__()
        # In memory where there is such a place: durable saves are not what is tested here.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = tempfile.TemporaryDirectory(dir=memory)
        self.path = Path(self.folder.name) / "m.torshpkg"
        self.expected: dict[str, bytes] = {}
        self.arrays: dict[str, Any] = {}
        self.documents: dict[str, bytes] = {}

    def teardown(self) -> None:
        self.folder.cleanup()

    @initialize(leaf=st.sampled_from([1 << 16, 1 << 22]))
    def make(self, leaf: int) -> None:
        self.package = Package("m", "1.0.0", digest=DigestSpec(leaf_bytes=leaf))

    @rule(name=NAMES, data=DATA, kind=st.sampled_from(list(ResourceType)))
    def add(self, name: str, data: bytes, kind: ResourceType) -> None:
        try:
            self.package.add_resource(name, data, kind)
        except InvalidArgumentError:
            clash = [n for n in self.expected if self._clash(n, name)]
            assert clash, f"{name} was refused beside {sorted(self.expected)}"
            return
        assert name not in self.expected
        self.expected[name] = data
        self.arrays.pop(name, None)

    @staticmethod
    def _clash(a: str, b: str) -> bool:
        a, b = a.casefold(), b.casefold()
        same = {a, a + ".json"} & {b, b + ".json"}
        return bool(same) or a.startswith(b + "/") or b.startswith(a + "/")

    @rule(name=NAMES, dtype=DTYPES, count=st.integers(0, 40_000))
    def add_array(self, name: str, dtype: Any, count: int) -> None:
        array = np.arange(count).astype(dtype)
        try:
            self.package.add_resource(name, {"t": array, "u": array}, ResourceType.ModelWeights)
        except InvalidArgumentError:
            return
        self.expected[name] = bytes(self.package.get_resource(name).data)
        self.arrays[name] = array

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        if name in self.expected:
            self.package.remove_resource(name)
            del self.expected[name]
            self.arrays.pop(name, None)

    @rule(name=st.sampled_from(["x.json", "y.json"]), data=DATA)
    def document(self, name: str, data: bytes) -> None:
        self.package.set_document(name, data)
        self.documents[name] = data

    @rule(name=st.sampled_from(["x.json", "y.json"]))
    def remove_document(self, name: str) -> None:
        if name in self.documents:
            self.package.remove_document(name)
            del self.documents[name]

    @rule(algorithm=ALGORITHMS)
    def compress(self, algorithm: CompressionAlgorithm) -> None:
        self.package.set_compression(algorithm, CompressionLevel.Fast)

    @rule(key=st.sampled_from("ab"), value=st.text(alphabet="xü\n", max_size=3))
    def describe(self, key: str, value: str) -> None:
        self.package.metadata[key] = value
        self.package.set_description(value)

    @rule(lazy=st.booleans(), stable=st.sampled_from(["mmap", "copy"]))
    def save_and_load(self, lazy: bool, stable: Any) -> None:
        before = serialize_package(self.package)
        self.package.save(self.path)
        raw = self.path.read_bytes()
        loaded = Package.load(self.path, lazy=lazy, stable=stable)
        assert loaded.to_bytes() == raw
        assert serialize_package(loaded) == before
        assert loaded.metadata == self.package.metadata
        self.package = loaded

    @invariant()
    def holds_what_it_should(self) -> None:
        assert self.package.list_resources() == sorted(self.expected)
        for name, data in self.expected.items():
            assert self.package.get_resource(name).data == data
        for name, array in self.arrays.items():
            assert np.array_equal(self.package.get_resource(name).tensor("t"), array)
        assert self.package.list_documents() == sorted(self.documents)
        for name, data in self.documents.items():
            assert self.package.get_document(name).data == data


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=80, stateful_step_count=15, deadline=None)
