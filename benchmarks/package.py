"""Packages against torch, safetensors and raw system calls: ratios of paired, interleaved runs.

    python benchmarks/package.py [--megabytes 500] [--rounds 5] [--stream-gigabytes 10]

Each row runs ours and the peer in turn, in random order, and prints the median of the paired
ratios ours / peer: below 1 is faster. Wall time where a user waits, CPU time of the whole process
(all threads, user and system) where throughput counts. Every run is a process of its own, forked
from this one, so that nobody profits from memory that an earlier run has left in the allocator;
files that a run writes are removed before, and nothing waits to be written to the disk.

Lines without a goal tell what one thing alone costs over the same bytes: the floor of what holds
it. Encryption is compared with the bare cipher over the same bytes in memory, in chunks of 1 MiB,
and a raw write: AES-256-GCM with AES-256-GCM, ChaCha20-Poly1305 with ChaCha20-Poly1305. The last
row streams a sparse file through a package and reports by how much the resident set grew.
"""

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from torsh_package import (
    EncryptionAlgorithm,
    Package,
    PackageEncryptor,
    ResourceType,
    X25519Identity,
)
from torsh_package.crypto.stream import StreamSealer
from torsh_package.digest import DigestSpec
from torsh_package.extract import extract
from torsh_package.sha256_lanes import lane_hasher

TENSORS = 41
CHUNK = 1 << 20


@dataclass(frozen=True)
class Row:
    """One comparison; `clock` is `wall` or `cpu`, `goal` the largest ratio that will do.

    `writes` are the files that either side makes; they are removed before it runs.
    """

    name: str
    clock: str
    goal: float | None
    ours: Callable[[], object]
    peer: Callable[[], object]
    writes: tuple[Path, ...] = ()


def seconds(run: Callable[[], object], row: Row) -> float:
    """Seconds of one run in a child process."""
    for path in row.writes:
        path.unlink(missing_ok=True)
    os.sync()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            read = time.perf_counter if row.clock == "wall" else time.process_time
            begin = read()
            kept = run()
            os.write(writer, str(read() - begin).encode())
            del kept
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    if not text:
        raise SystemExit(f"{row.name}: a run failed")
    return float(text)


def measure(row: Row, rounds: int) -> tuple[float, float, float]:
    """Median ratio, and median seconds of ours and of the peer; the first pair does not count."""
    pairs: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        order = [row.ours, row.peer]
        random.shuffle(order)
        taken = {run: seconds(run, row) for run in order}
        pairs.append((taken[row.ours], taken[row.peer]))
    counted = pairs[1:]
    ratio = statistics.median(ours / peer for ours, peer in counted)
    ours, peer = (statistics.median(column) for column in zip(*counted, strict=True))
    return ratio, ours, peer


def weights(megabytes: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    count = megabytes * 1_000_000 // 4 // TENSORS
    return {
        f"layer{i:02d}.weight": rng.standard_normal(count, dtype=np.float32) for i in range(TENSORS)
    }


def container_rows(folder: Path, arrays: dict[str, np.ndarray]) -> Iterator[Row]:
    import torch
    from safetensors.torch import load_file, save_file

    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    ours, theirs, safe = folder / "m.torshpkg", folder / "m.pt", folder / "m.safetensors"

    def save(spec: DigestSpec, path: Path = ours) -> None:
        package = Package("m", "1.0.0", digest=spec)
        package.add_resource("weights", arrays, ResourceType.ModelWeights)
        package.save(path)

    def opened(path: Path, lazy: bool) -> object:
        found = Package.load(path, lazy=lazy)
        return found.get_resource("weights").table

    def verified(path: Path) -> object:
        return dict(Package.load(path).get_resource("weights").tensors)

    save(DigestSpec())
    save(DigestSpec("blake3"), folder / "b.torshpkg")
    save_file(tensors, safe)
    torch.save(tensors, theirs)

    def torch_load() -> object:
        return torch.load(theirs, weights_only=True)

    def torch_save() -> None:
        torch.save(tensors, theirs)

    def hashed(algorithm: str) -> Callable[[], None]:
        """Each leaf through hashlib or blake3, without lanes, on one thread."""
        spec = DigestSpec(algorithm)

        def run() -> None:
            for array in arrays.values():
                spec.of(memoryview(array).cast("B"))

        return run

    blake = folder / "b.torshpkg"
    load, wrote = "load, all verified", (ours, theirs, blake)
    yield Row(
        "open, nothing verified yet / safetensors load", "wall", 2.0,
        lambda: opened(ours, lazy=True), lambda: load_file(safe),
    )  # fmt: skip
    for clock in ("wall", "cpu"):
        yield Row(f"{load} (sha256) / torch.load", clock, 1.0, lambda: verified(ours), torch_load)
    yield Row(f"{load} (blake3) / torch.load", "cpu", 0.6, lambda: verified(blake), torch_load)
    yield Row("sha256 of the leaves alone / torch.load", "cpu", None, hashed("sha256"), torch_load)
    save256, save_b3 = lambda: save(DigestSpec()), lambda: save(DigestSpec("blake3"), blake)
    yield Row("save (sha256) / torch.save", "cpu", 1.3, save256, torch_save, wrote)
    yield Row("save (blake3) / torch.save", "cpu", 1.3, save_b3, torch_save, wrote)
    yield Row("sha256 of the leaves alone / torch.save", "cpu", None, hashed("sha256"), torch_save,
              wrote)  # fmt: skip


def bare(cipher: AESGCM | ChaCha20Poly1305, data: memoryview, path: Path) -> None:
    """The anchor: bytes in memory through `encrypt` in chunks of 1 MiB, and a plain write."""
    with path.open("wb", buffering=0) as file:
        for i, begin in enumerate(range(0, len(data), CHUNK)):
            file.write(cipher.encrypt(i.to_bytes(12, "big"), data[begin : begin + CHUNK], None))


def stream(algorithm: EncryptionAlgorithm, data: memoryview, path: Path) -> None:
    """Encryption alone: a resource is sealed into a file, without digests and package."""
    with path.open("wb", buffering=0) as file:
        for piece in StreamSealer(algorithm, bytes(32), b"").pieces([data]):
            file.write(piece)


def encryption_rows(folder: Path, arrays: dict[str, np.ndarray]) -> Iterator[Row]:
    """AES-256-GCM against the anchor with `AESGCM`, ChaCha20-Poly1305 against its own.

    ChaCha20 has no instruction of its own in processors. Where AES has, the bare cipher alone costs
    about what twice the anchor with `AESGCM` does; that ratio is printed without a goal.
    """
    data = memoryview(np.concatenate(list(arrays.values())).data).cast("B")
    raw, sealed = folder / "raw", folder / "sealed"
    identity = X25519Identity.generate()
    names = {EncryptionAlgorithm.Aes256Gcm: "AES-256-GCM"}
    names[EncryptionAlgorithm.ChaCha20Poly1305] = "ChaCha20-Poly1305"
    ciphers = {"AES-256-GCM": AESGCM(bytes(32)), "ChaCha20-Poly1305": ChaCha20Poly1305(bytes(32))}
    anchors = {name: partial(bare, cipher, data, raw) for name, cipher in ciphers.items()}
    for algorithm, name in names.items():
        row, alone = f"seal and write alone / {name} and write", partial(stream, algorithm, data)
        yield Row(row, "cpu", 2.0, partial(alone, sealed), anchors[name], (sealed, raw))
        for digest in ("sha256", "blake3"):
            package = Package("m", "1.0.0", digest=DigestSpec(digest))
            package.add_resource("weights", arrays, ResourceType.ModelWeights)
            kept = folder / "kept"

            def encrypt(
                path: Path, package: Package = package, algorithm: EncryptionAlgorithm = algorithm
            ) -> None:
                PackageEncryptor(algorithm).encrypt_package(package, identity.recipient).save(path)

            def decrypt(kept: Path = kept) -> object:
                return extract(Package.load(kept, identities=[identity]), folder, ["weights"])

            encrypt(kept)
            saved = partial(encrypt, sealed)
            row = f"encrypt and save ({digest}) / {name} and write"
            yield Row(row, "cpu", 2.0, saved, anchors[name], (sealed, raw))
            row = f"load, decrypt, write ({digest}) / {name} and write"
            yield Row(row, "cpu", 2.0, decrypt, anchors[name], (folder / "weights", raw))
    row = "encrypt and save (blake3), ChaCha20-Poly1305 / AES-256-GCM and write"
    yield Row(row, "cpu", None, saved, anchors["AES-256-GCM"], (sealed, raw))


class Nowhere:
    """A blob that keeps nothing but its size."""

    def __init__(self) -> None:
        self._at = 0

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        count = memoryview(data).nbytes
        self._at += count
        return count

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = offset
        return offset

    def tell(self) -> int:
        return self._at

    def truncate(self, size: int | None = None, /) -> int:
        return self._at


class NowhereStorage:
    """A storage whose blobs keep nothing."""

    @contextmanager
    def create(self, key: str, *, if_match: str | None = None) -> Generator[Nowhere]:
        yield Nowhere()


def stream_file(path: str) -> None:
    """Packs a file without keeping the result; prints the growth of the resident set in MiB."""
    package = Package("m", "1.0.0")
    package.add_resource("warm", bytes(1 << 20), ResourceType.Data)
    package.save("warm", storage=NowhereStorage())  # type: ignore[arg-type]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    package.add_file("big", path, ResourceType.Data)
    begin = time.perf_counter()
    package.save("big", storage=NowhereStorage())  # type: ignore[arg-type]
    elapsed = time.perf_counter() - begin
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{grown:.1f} {os.path.getsize(path) / 1e9 / elapsed:.2f}")


def stream_in_process(folder: Path, gigabytes: float) -> tuple[float, float]:
    """Memory growth in MiB and speed in GB/s for a sparse file, in a fresh process."""
    source = folder / "sparse"
    with source.open("wb") as file:
        file.truncate(int(gigabytes * 1e9))
    command = [sys.executable, __file__, "--stream", str(source)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    grown, speed = found.stdout.split()
    return float(grown), float(speed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stream-gigabytes", type=float, default=10.0)
    parser.add_argument("--folder", help="where to write; on a real disk, not tmpfs")
    parser.add_argument("--stream", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stream:
        stream_file(args.stream)
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        arrays = weights(args.megabytes)
        size = sum(array.nbytes for array in arrays.values()) / 1e6
        begin = time.process_time()
        lanes = lane_hasher()
        print(f"{size:.0f} MB of float32 in {TENSORS} tensors, {args.rounds} pairs a row")
        print(f"{'':66} {'clock':5} {'ratio':>6} {'goal':>5} {'ours ms':>9} {'peer ms':>9}")
        if lanes is not None:
            once = 1e3 * (time.process_time() - begin)
            print(f"{'compiling the kernel for SHA-256, once per process':66} cpu {once:29.2f}")
        for make in (container_rows, encryption_rows):
            for row in make(folder, arrays):
                ratio, ours, peer = measure(row, args.rounds)
                verdict = "  MISSED" if row.goal is not None and ratio > row.goal else ""
                goal = "" if row.goal is None else f"{row.goal:.2f}"
                print(
                    f"{row.name:66} {row.clock:5} {ratio:6.2f} {goal:>5} "
                    f"{1e3 * ours:9.2f} {1e3 * peer:9.2f}{verdict}",
                    flush=True,
                )
        grown, speed = stream_in_process(folder, args.stream_gigabytes)
        verdict = "" if grown <= 64 else "  MISSED"
        print(
            f"memory growth over a stream of {args.stream_gigabytes:g} GB: {grown:.0f} MiB "
            f"(goal 64), {speed:.2f} GB/s{verdict}"
        )


if __name__ == "__main__":
    main()
