"""SHA-256 of sixteen leaves at once, on processors with AVX-512.

One SHA-256 is a chain of dependent rounds. Sixteen independent ones fill the lanes of a vector,
which takes 0.4 of the processor time of sixteen in a row with the SHA instructions (the idea:
Gueron and Krasnov, "Simultaneous hashing of multiple messages", 2012). No library for Python does
this, so the compression function (FIPS 180-4, 6.2.2) is emitted as LLVM IR over `<16 x i32>` and
compiled by llvmlite, once a process has much to hash; the digests are those of hashlib.
"""

import ctypes
import struct
from collections.abc import Callable, Sequence
from functools import cache

import numpy

from torsh_package.buffers import mapped

LANES = 16
BLOCK = 64
SYMBOL = "torsh_sha256_lanes"
AHEAD = 512
"""Bytes that are fetched ahead of each lane, as 16 streams at equal distances share a cache set."""
_NEEDED = ("avx512f", "avx512bw", "avx512vl")
_PRIMES = [n for n in range(2, 312) if all(n % d for d in range(2, n))]
_V = f"<{LANES} x i32>"

Kernel = Callable[[int, int, int], None]
"""(states, 16 addresses, blocks): takes blocks of 64 bytes from each address into its state."""


def _root_fraction(prime: int, power: int) -> int:
    """The first 32 bits of the fraction of the `power`-th root of a prime."""
    scaled = prime << (32 * power)
    low, high = 0, 1 << 36
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**power <= scaled else (low, middle)
    return low & 0xFFFF_FFFF


ROUND_CONSTANTS = tuple(_root_fraction(prime, 3) for prime in _PRIMES)
INITIAL = tuple(_root_fraction(prime, 2) for prime in _PRIMES[:8])


class LaneHasher:
    """Leaf digests, H(0x00 || leaf), of up to 16 leaves of one size; safe for many threads.

    Args:
        kernel: The compiled compression function; it runs without the interpreter's lock.
    """

    def __init__(self, kernel: Kernel):
        self._kernel = kernel

    def of_memory(self, leaves: Sequence[memoryview]) -> list[bytes]:
        """Digests of leaves in memory, of one size: a multiple of 64 bytes."""
        size = len(leaves[0])
        state = _State(self._kernel, size)
        state.run([b"\0" + bytes(leaf[: BLOCK - 1]) for leaf in leaves])
        if size > BLOCK:
            middle = [leaf[BLOCK - 1 : size - 1] for leaf in leaves]
            state.run(middle)
        return state.finish([bytes(leaf[size - 1 :]) for leaf in leaves])

    def of_file(self, fd: int, offset: int, leaf_bytes: int, count: int) -> list[bytes]:
        """Digests of `count` leaves that follow each other in a file, which is mapped for that.

        Args:
            fd: Descriptor that can be read.
            offset: Where the first leaf begins.
            leaf_bytes: Bytes of a leaf, a multiple of 64.
            count: At most 16.

        Raises:
            StorageError: The file cannot be mapped, or is shorter.
        """
        with mapped(fd, offset, leaf_bytes * count) as data:
            starts = range(0, len(data), leaf_bytes)
            return self.of_memory([data[start : start + leaf_bytes] for start in starts])


class _State:
    """The states of up to 16 messages of one length."""

    def __init__(self, kernel: Kernel, leaf_bytes: int):
        self._kernel = kernel
        self._words = numpy.repeat(numpy.array(INITIAL, numpy.uint32), LANES)
        self._bits = 8 * (leaf_bytes + 1)

    def run(self, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        """Takes whole blocks, equally many of each message."""
        arrays = [numpy.frombuffer(part, numpy.uint8) for part in parts]
        addresses = [array.ctypes.data for array in arrays]
        addresses += addresses[:1] * (LANES - len(parts))  # Idle lanes do what the first does.
        table = numpy.array(addresses, numpy.uint64)
        self._kernel(self._words.ctypes.data, table.ctypes.data, len(parts[0]) // BLOCK)

    def finish(self, tails: Sequence[bytes | bytearray]) -> list[bytes]:
        """Takes the last bytes of each message (fewer than 56) and gives the digests."""
        zeros = bytes(BLOCK - 9 - len(tails[0]))
        end = b"\x80" + zeros + struct.pack(">Q", self._bits)
        self.run([bytes(tail) + end for tail in tails])
        digests = self._words.reshape(8, LANES).T.astype(">u4")
        return [digests[lane].tobytes() for lane in range(len(tails))]


def is_compiled() -> bool:
    """Whether `lane_hasher` has been paid for."""
    return lane_hasher.cache_info().currsize > 0


@cache
def lane_hasher() -> LaneHasher | None:
    """The hasher, compiled at the first call; None without AVX-512 or without llvmlite."""
    try:
        from llvmlite import binding as llvm
    except ImportError:
        return None
    features = llvm.get_host_cpu_features()
    return compiled() if all(features.get(name, False) for name in _NEEDED) else None


def compiled() -> LaneHasher:
    """The hasher for any processor; without AVX-512 it is slower than hashlib."""
    from llvmlite import binding as llvm

    features = llvm.get_host_cpu_features()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features.flatten(), opt=2, jit=True
    )
    library = llvm.JITLibraryBuilder().add_ir(module_text()).export_symbol(SYMBOL)
    # LLVM's older linker puts constants anywhere, at times beyond the code's reach: it aborts then.
    tracker = library.link(llvm.create_lljit_compiler(machine, use_jit_link=True), SYMBOL)
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    entry = ctypes.CFUNCTYPE(None, pointer, pointer, count)(tracker[SYMBOL])

    def kernel(states: int, addresses: int, blocks: int, _owner: object = tracker) -> None:
        entry(states, addresses, blocks)

    return LaneHasher(kernel)


# ------------------------------------------------------------ the compression function


class _Lines:
    """LLVM IR in the making: each method appends an instruction and gives its result's name."""

    def __init__(self, prefix: str = "v") -> None:
        self.text: list[str] = []
        self._prefix = prefix
        self._count = 0

    def op(self, instruction: str) -> str:
        self._count += 1
        name = f"%{self._prefix}{self._count}"
        self.text.append(f"  {name} = {instruction}")
        return name

    def add(self, *values: str) -> str:
        return self._fold("add", values)

    def xor(self, *values: str) -> str:
        return self._fold("xor", values)

    def _fold(self, name: str, values: Sequence[str]) -> str:
        result = values[0]
        for value in values[1:]:
            result = self.op(f"{name} {_V} {result}, {value}")
        return result

    def both(self, left: str, right: str) -> str:
        return self.op(f"and {_V} {left}, {right}")

    def rotations(self, value: str, *counts: int, shift: int | None = None) -> str:
        """The sigma functions: XOR of rotations to the right, and perhaps of one shift."""
        parts = [
            self.op(f"call {_V} @llvm.fshr({_V} {value}, {_V} {value}, {_V} splat (i32 {count}))")
            for count in counts
        ]
        if shift is not None:
            parts.append(self.op(f"lshr {_V} {value}, splat (i32 {shift})"))
        return self.xor(*parts)

    def shuffle(self, left: str, right: str, order: Sequence[int]) -> str:
        mask = ", ".join(f"i32 {i}" for i in order)
        return self.op(f"shufflevector {_V} {left}, {_V} {right}, {_V} <{mask}>")


def module_text() -> str:
    """LLVM IR of the compression function.

    A block's 64 rounds are a loop of three times 16, which also make the words of the next 16, and
    the last 16.
    """
    out = _Lines()
    put = out.text.append
    constants = ", ".join(f"i32 {value}" for value in ROUND_CONSTANTS)
    put(f"@k = internal constant [64 x i32] [{constants}], align 64")
    put(f"declare {_V} @llvm.fshr({_V}, {_V}, {_V})")
    put(f"declare {_V} @llvm.bswap({_V})")
    put("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    put(f"define void @{SYMBOL}(ptr noalias %states, ptr noalias %addresses, i64 %blocks) {{")
    put("entry:")
    for i in range(8):
        put(f"  %at{i} = getelementptr {_V}, ptr %states, i64 {i}")
        put(f"  %first{i} = load {_V}, ptr %at{i}, align 4")
    for lane in range(LANES):
        put(f"  %slot{lane} = getelementptr ptr, ptr %addresses, i64 {lane}")
        put(f"  %lane{lane} = load ptr, ptr %slot{lane}, align 8")
    put("  br label %block\nblock:\n  %i = phi i64 [ 0, %entry ], [ %next, %sum ]")
    for i in range(8):
        put(f"  %s{i} = phi {_V} [ %first{i}, %entry ], [ %sum{i}, %sum ]")
    words = _transposed(out, _block_rows(out))
    put("  br label %rounds\nrounds:")
    put("  %base = phi i64 [ 0, %block ], [ %base.next, %rounds ]")
    body = _Lines("n")  # A loop's phis come before the values that they name.
    state, made = _rounds(
        body, [f"%r{i}" for i in range(8)], [f"%w{i}" for i in range(16)], "%base"
    )
    for i in range(8):
        put(f"  %r{i} = phi {_V} [ %s{i}, %block ], [ {state[i]}, %rounds ]")
    for i in range(16):
        put(f"  %w{i} = phi {_V} [ {words[i]}, %block ], [ {made[i]}, %rounds ]")
    out.text += body.text
    put("  %base.next = add i64 %base, 16\n  %more = icmp ult i64 %base.next, 48")
    put("  br i1 %more, label %rounds, label %sum\nsum:")
    state, _ = _rounds(out, state, made, "48", more=False)
    for i in range(8):
        put(f"  %sum{i} = add {_V} %s{i}, {state[i]}")
    put("  %next = add i64 %i, 1\n  %done = icmp eq i64 %next, %blocks")
    put("  br i1 %done, label %exit, label %block\nexit:")
    for i in range(8):
        put(f"  store {_V} %sum{i}, ptr %at{i}, align 4")
    return "\n".join([*out.text, "  ret void", "}", ""])


def _block_rows(out: _Lines) -> list[str]:
    """The 16 words of one block of each lane: a vector per lane."""
    offset = out.op("shl i64 %i, 6")
    rows: list[str] = []
    for lane in range(LANES):
        place = out.op(f"getelementptr i8, ptr %lane{lane}, i64 {offset}")
        raw = out.op(f"load {_V}, ptr {place}, align 1")
        rows.append(out.op(f"call {_V} @llvm.bswap({_V} {raw})"))
        ahead = out.op(f"getelementptr i8, ptr {place}, i64 {AHEAD}")
        out.text.append(f"  call void @llvm.prefetch.p0(ptr {ahead}, i32 0, i32 3, i32 1)")
    return rows


def _transposed(out: _Lines, rows: list[str]) -> list[str]:
    """A vector per word instead of one per lane: at each step, squares of `width` change places."""
    columns = range(LANES)
    for width in (1, 2, 4, 8):
        low = [LANES + (j ^ width) if j & width else j for j in columns]
        high = [LANES + j if j & width else j | width for j in columns]
        for i in (i for i in columns if not i & width):
            upper, lower = rows[i], rows[i | width]
            rows[i] = out.shuffle(upper, lower, low)
            rows[i | width] = out.shuffle(upper, lower, high)
    return rows


def _rounds(
    out: _Lines, state: list[str], words: list[str], base: str, *, more: bool = True
) -> tuple[list[str], list[str]]:
    """16 rounds from `base` on; returns the state, and with `more` the words of the next 16."""
    a, b, c, d, e, f, g, h = state
    words = list(words)
    for i in range(16):
        word = words[i]
        choice = out.xor(g, out.both(e, out.xor(f, g)))
        first = out.add(
            h, out.add(word, _constant(out, base, i)), choice, out.rotations(e, 6, 11, 25)
        )
        majority = out.xor(b, out.both(out.xor(a, b), out.xor(c, b)))
        second = out.add(out.rotations(a, 2, 13, 22), majority)
        a, b, c, d, e, f, g, h = out.add(first, second), a, b, c, out.add(d, first), e, f, g
        if more:
            words[i] = out.add(
                word,
                out.rotations(words[(i + 1) % 16], 7, 18, shift=3),
                words[(i + 9) % 16],
                out.rotations(words[(i + 14) % 16], 17, 19, shift=10),
            )
    return [a, b, c, d, e, f, g, h], words


def _constant(out: _Lines, base: str, i: int) -> str:
    """K of round `base + i` in all lanes."""
    place = out.op(f"getelementptr i32, ptr @k, i64 {base}")
    place = out.op(f"getelementptr i32, ptr {place}, i64 {i}")
    value = out.op(f"load i32, ptr {place}, align 4")
    vector = out.op(f"insertelement {_V} poison, i32 {value}, i64 0")
    return out.shuffle(vector, vector, [0] * LANES)
