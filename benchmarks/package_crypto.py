"""Encryption and decryption of packages against the bare cipher and the bare disk, in one run.

    python benchmarks/package_crypto.py [--megabytes 512] [--rounds 5] [--folder DIR]

The anchor is what nobody can do without: `AESGCM.encrypt` over the same bytes in chunks of 1 MiB
in memory, plus writing them to a file. Figures are CPU seconds of the process (user and system),
interleaved and shuffled; ratios are medians of paired rounds.

* `stream` is encryption alone: file to file, and from a map. Its budget is 2 x the anchor.
* `package` adds what the format does whether or not a package is encrypted: a digest and a CRC-32
  of every stored byte, the ZIP archive, bringing the file to disk (`fsync`), and for decryption the
  verification of all digests. Where the processor has vector AES, SHA-256 costs more than cipher
  and disk together.

The memory column is the growth of the peak of private memory over the operation.
"""

import argparse
import importlib.util
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from torsh_package import (
    EncryptionAlgorithm,
    Package,
    PackageEncryptor,
    ResourceType,
    X25519Identity,
)
from torsh_package.crypto.stream import SealedReader, StreamSealer
from torsh_package.digest import DigestSpec

MIB = 1 << 20
BUDGET = 2.0


def cpu() -> float:
    """User and system seconds of the process, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds of a call."""
    start_cpu, start = cpu(), time.perf_counter()
    call()
    return cpu() - start_cpu, time.perf_counter() - start


class Bench:
    """The operations over one file of random bytes."""

    def __init__(self, folder: Path, megabytes: int):
        self.folder = folder
        self.size = megabytes * MIB
        self.identity = X25519Identity.generate()
        self.plain = folder / "weights"
        with self.plain.open("wb") as file:
            for _ in range(megabytes):
                file.write(os.urandom(MIB))

    def anchor(self, cipher: type[AESGCM] | type[ChaCha20Poly1305]) -> Callable[[], None]:
        """The bare cipher over the bytes in memory, and a raw write of as many bytes."""
        chunk = os.urandom(MIB)
        aead = cipher(bytes(32))

        def run() -> None:
            for index in range(self.size // MIB):
                aead.encrypt(index.to_bytes(12), chunk, None)
            # A new file each time, as a save makes one: overwriting old pages is cheaper.
            (self.folder / "raw").unlink(missing_ok=True)
            with (self.folder / "raw").open("wb", buffering=0) as file:
                for _ in range(self.size // MIB):
                    file.write(chunk)

        return run

    def encrypt(self, algorithm: EncryptionAlgorithm, digest: str) -> Callable[[], None]:
        """File to encrypted package."""

        def run() -> None:
            package = Package("bench", "1.0.0", digest=DigestSpec(digest))
            package.add_file("weights", self.plain, ResourceType.ModelWeights)
            encryptor = PackageEncryptor(algorithm)
            encrypted = encryptor.encrypt_package(package, self.identity.recipient)
            encrypted.save(self.folder / f"{algorithm.value}-{digest}.torshpkg")

        return run

    def decrypt(self, algorithm: EncryptionAlgorithm, digest: str) -> Callable[[], None]:
        """Encrypted package to verified plaintext, piece by piece."""

        def run() -> None:
            path = self.folder / f"{algorithm.value}-{digest}.torshpkg"
            package = Package.load(path, identities=[self.identity], lazy=True)
            total = sum(len(piece) for piece in package.get_resource("weights").pieces())
            assert total == self.size

        return run

    def seal(self, algorithm: EncryptionAlgorithm) -> Callable[[], None]:
        """The stream alone: seal in pieces of 1 MiB to a file."""

        def run() -> None:
            (self.folder / f"{algorithm.value}.stream").unlink(missing_ok=True)
            sealer = StreamSealer(algorithm, bytes(32), b"")
            with (
                self.plain.open("rb", buffering=0) as source,
                (self.folder / f"{algorithm.value}.stream").open("wb", buffering=0) as sink,
            ):
                while piece := source.read(MIB):
                    sink.write(sealer.update(piece))
                sink.write(sealer.finalize())

        return run

    def unseal(self, algorithm: EncryptionAlgorithm) -> Callable[[], None]:
        """The stream alone: open from a map."""
        import mmap

        def run() -> None:
            with (self.folder / f"{algorithm.value}.stream").open("rb") as source:
                sealed = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
            reader = SealedReader(algorithm, bytes(32), b"", sealed)
            assert sum(len(piece) for piece in reader.pieces()) == self.size

        return run


def operations(bench: Bench) -> dict[str, Callable[[], None]]:
    """All rows; the first makes the anchor."""
    rows: dict[str, Callable[[], None]] = {"anchor aes": bench.anchor(AESGCM)}
    rows["anchor chacha"] = bench.anchor(ChaCha20Poly1305)
    for algorithm in EncryptionAlgorithm:
        name = "aes" if algorithm is EncryptionAlgorithm.Aes256Gcm else "chacha"
        rows[f"stream seal {name}"] = bench.seal(algorithm)
        rows[f"stream open {name}"] = bench.unseal(algorithm)
        for digest in ("sha256", "blake3"):
            if digest == "blake3" and importlib.util.find_spec("blake3") is None:
                continue
            rows[f"package encrypt {digest} {name}"] = bench.encrypt(algorithm, digest)
            rows[f"package decrypt {digest} {name}"] = bench.decrypt(algorithm, digest)
    return rows


def measure(
    rows: dict[str, Callable[[], None]], rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """CPU and wall seconds of each row in each round; rows are shuffled within a round."""
    for call in rows.values():
        call()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name in random.sample(list(rows), len(rows)):
            found[name].append(timed(rows[name]))
    return found


def peak_memory(call: Callable[[], None]) -> int:
    """Growth of the peak of private memory over a call in a child process, in bytes."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        before = _anonymous()
        peak = 0
        import threading

        stop = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not stop.wait(0.002):
                peak = max(peak, _anonymous())

        watcher = threading.Thread(target=watch)
        watcher.start()
        call()
        stop.set()
        watcher.join()
        os.write(writer, str(max(peak - before, 0)).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        return int(pipe.read())


def _anonymous() -> int:
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("RssAnon"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        bench = Bench(Path(folder), args.megabytes)
        rows = operations(bench)
        found = measure(rows, args.rounds)
        gigabytes = bench.size / 1e9
        over = False
        print(f"{'':30} CPU s   GB/s CPU   wall s   x anchor   memory MiB")
        for name, times in found.items():
            anchor = found[f"anchor {name.rsplit(' ', 1)[1]}"]
            ratio = statistics.median(t[0] / a[0] for t, a in zip(times, anchor, strict=True))
            seconds, wall = (statistics.median(t[i] for t in times) for i in (0, 1))
            memory = "" if "anchor" in name else f"{peak_memory(rows[name]) / MIB:10.1f}"
            print(
                f"{name:30}{seconds:6.2f}{gigabytes / seconds:11.2f}{wall:9.2f}"
                f"{ratio:11.2f}{memory:>13}"
            )
            over = over or ("stream" in name and ratio > BUDGET)
    print(f"budget of streams, {BUDGET} x anchor: {'EXCEEDED' if over else 'kept'}")
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
