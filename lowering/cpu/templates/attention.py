"""Fused attention: `softmax(scale Q K^T + mask) V` without the S x T matrix in memory.

    q [B, H, S, D]   k [B, Hkv, T, D]   v [B, Hkv, T, Dv]   out [B, H, S, Dv]

Keys are taken in blocks of 128 with a running maximum and sum ("online softmax", FlashAttention).
An output's order of operations depends on T, D and Dv only: scores are one contraction over D,
block sums and products with V start from zero, blocks follow each other. S = 1 (decoding with a
cache) is the same kernel with tiles of one row. With grouped heads (H > Hkv) the rows of all heads
that share keys form one matrix.

Unit of the parallel range: batch x key head x block of rows. Argument words: 0 q, 1 k, 2 v, 3 out,
4 mask, 5 B, 6 S, 7 T, 8 scratch, 9 causal offset, 10 to 12 strides of q (batch, head, row, in
elements), 13 to 15 of k, 16 to 18 of v, 19 to 21 of out, 22 to 24 of mask (0 repeats it), 25 to 27
elements before the first one of q, k and v. Elements of a row are contiguous. A row whose keys are
all masked gives 0, or NaN with `nan_unseen`.
"""

from dataclasses import dataclass

from lowering.cpu.templates.attention_params import (
    KEY_BLOCK,
    layout_of,
    padded_width,
    registers_of,
    unit_rows,
)
from lowering.cpu.templates.attention_params import AttentionParams as AttentionParams
from lowering.cpu.templates.attention_params import bytes_moved as bytes_moved
from lowering.cpu.templates.attention_params import flops as flops
from lowering.cpu.templates.attention_params import parallel_extent as parallel_extent
from lowering.cpu.templates.attention_params import scratch_bytes as scratch_bytes
from lowering.cpu.templates.epilogue import load_lanes, mask_of, store_lanes
from lowering.cpu.templates.gemm import contract
from lowering.cpu.templates.microkernel import Tile, accumulate, opaque_pointers
from lowering.cpu.templates.rows import LARGEST, SUM, VIRTUAL_LANES, fold_lanes
from lowering.cpu.templates.transpose import transpose
from lowering.cpu.text import Module, Text, Value
from lowering.math.exponential import exp_small, tanh
from lowering.math.num import where
from lowering.math.text_prim import TextPrim
from torsh_dialect.target import TargetInfo

_MINUS_INFINITY = "0xFFF0000000000000"


def emit(module: Module, name: str, params: AttentionParams, target: TargetInfo) -> None:
    """Write kernel `name`."""
    _Attention(module, name, params, target).write()


@dataclass(frozen=True)
class _Unit:
    """What the unit being written works on: batch, key head, first and last + 1 row, keys seen."""

    batch: Value
    head: Value
    first: Value
    last: Value
    keys: Value


class _Attention:
    """Writes one kernel."""

    def __init__(self, module: Module, name: str, params: AttentionParams, target: TargetInfo):
        self.params = params
        self.registers = registers_of(target)
        self.unit_rows = unit_rows(target)
        self.layout = layout_of(params, target)
        self.text = text = Text(module, name)
        self.vector = self.registers.type
        self.q, self.k, self.v, self.out = (
            text.argument(i, role=role) for i, role in enumerate(("q", "k", "v", "out"))
        )
        self.q, self.k, self.v = (
            text.at(base, text.argument(25 + i, "i64", "first"))
            for i, base in enumerate((self.q, self.k, self.v))
        )
        self.mask = text.argument(4, role="mask") if params.mask != "none" else ""
        self.rows = text.argument(6, "i64", "S")
        self.keys = text.argument(7, "i64", "T")
        base = text.argument(8, role="scratch")
        self.scratch = text.at(base, text.mul("%worker", self.layout.size))
        self.offset = text.argument(9, "i64", "offset") if params.causal else "0"
        self.strides = [text.argument(i, "i64", "stride") for i in range(10, 22)]
        if params.mask != "none":
            self.strides += [text.argument(i, "i64", "stride") for i in range(22, 25)]

    def part(self, offset: int, index: Value | int = 0) -> Value:
        """Address of element `index` of a part of the scratch."""
        return self.text.at(self.scratch, self.text.add(index, offset))

    def address(self, base: Value, first: int, batch: Value, head: Value, row: Value) -> Value:
        """Element offset of a row, by the strides from number `first` on."""
        text, strides = self.text, self.strides[first : first + 3]
        places = zip((batch, head, row), strides, strict=True)
        offset = "0"
        for index, stride in places:
            offset = text.add(offset, text.mul(index, stride))
        element = "i8" if base == self.mask and self.params.mask == "boolean" else "float"
        return text.at(base, offset, element)

    def write(self) -> None:
        """Write the loop over units."""
        text, params = self.text, self.params
        matrix = text.mul(self.rows, params.group)
        blocks = text.ceildiv(matrix, self.unit_rows)

        def unit(index: Value, _: list[Value]) -> None:
            pair, block = text.udiv(index, blocks), text.urem(index, blocks)
            first = text.mul(block, self.unit_rows)
            last = text.minimum(text.add(first, self.unit_rows), matrix)
            self.unit(
                _Unit(
                    text.udiv(pair, params.key_heads),
                    text.urem(pair, params.key_heads),
                    first,
                    last,
                    self.seen(first, last),
                )
            )

        text.loop("%lo", "%hi", 1, unit)
        text.finish()

    def seen(self, first: Value, last: Value) -> Value:
        """How many keys some row of `[first, last)` sees."""
        if not self.params.causal:
            return self.keys
        text = self.text
        end = text.sub(last, 1)
        same = text.compare("eq", text.udiv(first, self.rows), text.udiv(end, self.rows))
        row = text.choose(same, text.urem(end, self.rows), text.sub(self.rows, 1))
        seen = text.add(text.add(row, self.offset), 1)
        return text.maximum(text.minimum(seen, self.keys), 0)

    def unit(self, unit: _Unit) -> None:
        """Write one unit: blocks of keys outermost, row tiles inside."""
        text, layout = self.text, self.layout
        count = text.sub(unit.last, unit.first)
        width = padded_width(self.params, self.registers)

        def clear(row: Value, _: list[Value]) -> None:
            text.store("float", _MINUS_INFINITY, self.part(layout.maximum, row))
            text.store("float", "0.0", self.part(layout.total, row))
            place = self.part(layout.sums, text.mul(row, width))
            for vector in range(width // self.registers.lanes):
                at = text.at(place, vector * self.registers.lanes)
                text.store(self.vector, "zeroinitializer", at, 4 * self.registers.lanes)

        text.loop(0, count, 1, clear)

        def block(start: Value, _: list[Value]) -> None:
            length = text.minimum(text.sub(unit.keys, start), KEY_BLOCK)
            self.pack_keys(unit, start, length)
            text.when(text.compare("ne", count, 1), lambda: self.pack_values(unit, start, length))
            self.tiles(unit, start, length)

        text.loop(0, unit.keys, KEY_BLOCK, block)
        text.loop(0, count, 1, lambda row, _: self.finish_row(unit, row, width))

    # -- packing

    def pack_keys(self, unit: _Unit, start: Value, length: Value) -> None:
        """Write the block of K as panels `[D][width]`: vectors of keys instead of depths."""
        text, lanes, width = self.text, self.registers.lanes, self.registers.width
        depth = self.params.depth
        whole = depth // lanes * lanes
        last_key = text.sub(self.keys, 1)

        def keys(first: Value, _: list[Value]) -> None:
            panel = text.mul(text.udiv(first, width), depth * width)
            target = self.part(self.layout.keys, text.add(panel, text.urem(first, width)))
            rows: list[Value] = []
            for lane in range(lanes):
                # Past the end the last key is read again; its scores are masked.
                key = text.minimum(text.add(text.add(start, first), lane), last_key)
                rows.append(self.address(self.k, 3, unit.batch, unit.head, key))

            def square(column: Value, _: list[Value]) -> None:
                vectors = [text.load(self.vector, text.at(row, column)) for row in rows]
                for i, vector in enumerate(transpose(text, self.registers, vectors)):
                    place = text.at(target, text.mul(text.add(column, i), width))
                    text.store(self.vector, vector, place, 4 * lanes)

            text.loop(0, whole, lanes, square)
            for column in range(whole, depth):
                for lane, row in enumerate(rows):
                    value = text.load("float", text.at(row, column))
                    text.store("float", value, text.at(target, column * width + lane))

        text.loop(0, length, lanes, keys)

    def pack_values(self, unit: _Unit, start: Value, length: Value) -> None:
        """Write the block of V as panels `[key][width]`."""
        text, lanes, width = self.text, self.registers.lanes, self.registers.width

        def key(index: Value, _: list[Value]) -> None:
            row = self.address(self.v, 6, unit.batch, unit.head, text.add(start, index))
            for column in range(0, self.params.width, lanes):
                mask = mask_of(lanes, self.params.width - column)
                value = load_lanes(text, self.vector, text.at(row, column), mask)
                panel, rest = divmod(column, width)
                place = text.add(text.mul(index, width), panel * KEY_BLOCK * width + rest)
                text.store(self.vector, value, self.part(self.layout.values, place), 4 * lanes)

        text.loop(0, length, 1, key)

    # -- tiles of rows

    def tiles(self, unit: _Unit, start: Value, length: Value) -> None:
        """Write the row tiles of a unit: full ones, one of half height, single rows."""
        text, height = self.text, self.registers.rows
        first = unit.first
        for size in dict.fromkeys((height, -(-height // 2), 1)):
            whole = text.mul(text.udiv(text.sub(unit.last, first), size), size)
            end = text.add(first, whole)
            text.loop(
                first,
                end,
                size,
                lambda row, _, size=size: self.tile(unit, row, size, start, length),
            )
            first = end

    def tile(self, unit: _Unit, row: Value, size: int, start: Value, length: Value) -> None:
        """Write the scores, the softmax step and the product with V of one tile."""
        text = self.text
        heads: list[Value] = []
        rows: list[Value] = []
        for i in range(size):
            number = text.add(row, i)
            local = text.udiv(number, self.rows)
            heads.append(text.add(text.mul(unit.head, self.params.group), local))
            rows.append(text.sub(number, text.mul(local, self.rows)))
        self.scores(unit, heads, rows, start, length)
        local = text.sub(row, unit.first)
        text.loop(0, size, 1, lambda i, _: self.softmax_step(i, text.add(local, i), length))
        if size > 1:
            self.multiply_values(local, size, length)
            return
        # A unit of one row (decoding) reads V in place: packing would cost more than the product.
        alone = text.compare("eq", text.sub(unit.last, unit.first), 1)
        text.when(alone, lambda: self.multiply_values_in_place(unit, start, length))
        shared = text.let(f"xor i1 {alone}, true")
        text.when(shared, lambda: self.multiply_values(local, size, length))

    def scores(
        self, unit: _Unit, heads: list[Value], rows: list[Value], start: Value, length: Value
    ) -> None:
        """Write the masked scores of a tile, 32 keys at a time."""
        text, registers = self.text, self.registers
        places = zip(heads, rows, strict=True)
        queries = [self.address(self.q, 0, unit.batch, head, row) for head, row in places]
        queries = opaque_pointers(text, queries)
        span = VIRTUAL_LANES // registers.width if len(rows) == 1 else 1
        tile = Tile(registers, len(rows), span * registers.vectors)
        end = text.mul(text.ceildiv(length, VIRTUAL_LANES), VIRTUAL_LANES)
        panel_size = self.params.depth * registers.width

        def panel(column: Value, _: list[Value]) -> None:
            first = self.part(self.layout.keys, text.mul(column, self.params.depth))
            panels = [text.at(first, i * panel_size) for i in range(span)]
            values = contract(text, tile, queries, panels, self.params.depth)
            for number, value in enumerate(values):
                i, vector = divmod(number, tile.vectors)
                place = text.add(column, vector * registers.lanes)
                key = text.add(start, place)
                value = self.masked(unit, value, heads[i], rows[i], key, text.add(start, length))
                at = self.part(self.layout.scores, text.add(place, i * KEY_BLOCK))
                text.store(self.vector, value, at, 4 * registers.lanes)

        text.loop(0, end, span * registers.width, panel)

    def masked(
        self, unit: _Unit, value: Value, head: Value, row: Value, key: Value, end: Value
    ) -> Value:
        """Scale one vector of scores and mask what the row does not see."""
        text, params, lanes = self.text, self.params, self.registers.lanes
        prim = TextPrim(text, lanes)
        score = prim.num("f32", value) * params.scale
        if params.softcap:
            score = tanh(score * (1.0 / params.softcap)) * params.softcap
        if params.causal:
            end = text.minimum(end, text.add(text.add(row, self.offset), 1))
        numbers = "<" + ", ".join(f"i32 {lane}" for lane in range(lanes)) + ">"
        limit = text.let(f"trunc i64 {text.sub(end, key)} to i32")
        limits = text.splat(f"<{lanes} x i32>", limit)
        visible = text.let(f"icmp slt <{lanes} x i32> {numbers}, {limits}", "mask")
        if params.mask != "none":
            line = self.address(self.mask, 12, unit.batch, head, row)
            if params.mask == "additive":
                added = text.masked_load(
                    self.vector, text.at(line, key), visible, "zeroinitializer"
                )
                score = score + prim.num("f32", added)
            else:
                kept = text.masked_load(
                    f"<{lanes} x i8>", text.at(line, key, "i8"), visible, "zeroinitializer", 1
                )
                visible = text.let(f"icmp ne <{lanes} x i8> {kept}, zeroinitializer", "mask")
        return where(prim.num("i1", visible), score, float("-inf")).value

    def softmax_step(self, i: Value, row: Value, length: Value) -> None:
        """Write the running maximum and sum of one row, and the weights of this block."""
        text, layout = self.text, self.layout
        wide, one = TextPrim(text, VIRTUAL_LANES), TextPrim(text, 1)
        type = wide.type("f32")
        scores = self.part(layout.scores, text.mul(i, KEY_BLOCK))
        end = text.mul(text.ceildiv(length, VIRTUAL_LANES), VIRTUAL_LANES)

        def largest(column: Value, v: list[Value]) -> list[Value]:
            x = wide.num("f32", text.load(type, text.at(scores, column), 64))
            return [LARGEST.combine(wide.num("f32", v[0]), x).value]

        start = wide.constant("f32", float("-inf"))
        found = text.loop(0, end, VIRTUAL_LANES, largest, [(type, start)], guarded=False)[0]

        def maximum(lanes: int, a: Value, b: Value) -> Value:
            prim = TextPrim(text, lanes)
            return LARGEST.combine(prim.num("f32", a), prim.num("f32", b)).value

        before = one.num("f32", text.load("float", self.part(layout.maximum, row)))
        block = one.num("f32", fold_lanes(text, type, found, maximum))
        now = LARGEST.combine(before, block)
        shift = where(now.equals(float("-inf")), 0.0, now)
        correction = exp_small(before - shift)

        def weigh(column: Value, v: list[Value]) -> list[Value]:
            place = text.at(scores, column)
            x = wide.num("f32", text.load(type, place, 64))
            weight = exp_small(x - wide.num("f32", text.splat(type, shift.value)))
            text.store(type, weight.value, place, 64)
            return [(wide.num("f32", v[0]) + weight).value]

        zero = wide.constant("f32", 0.0)
        sums = text.loop(0, end, VIRTUAL_LANES, weigh, [(type, zero)], guarded=False)[0]

        def add(lanes: int, a: Value, b: Value) -> Value:
            prim = TextPrim(text, lanes)
            return SUM.combine(prim.num("f32", a), prim.num("f32", b)).value

        total = one.num("f32", text.load("float", self.part(layout.total, row)))
        total = total * correction + one.num("f32", fold_lanes(text, type, sums, add))
        text.store("float", now.value, self.part(layout.maximum, row))
        text.store("float", total.value, self.part(layout.total, row))
        text.store("float", correction.value, self.part(layout.correction, i))

    def multiply_values(self, row: Value, size: int, length: Value) -> None:
        """Write `sums = sums * correction + weights V`, panel by panel."""
        text, registers, layout = self.text, self.registers, self.layout
        width = padded_width(self.params, registers)
        weights = [self.part(layout.scores, i * KEY_BLOCK) for i in range(size)]
        factors = [
            text.splat(self.vector, text.load("float", self.part(layout.correction, i)))
            for i in range(size)
        ]

        def panel(column: Value, span: int, vectors: int) -> None:
            first = self.part(layout.values, text.mul(column, KEY_BLOCK))
            panels = [text.at(first, i * KEY_BLOCK * registers.width) for i in range(span)]
            tile = Tile(registers, size, vectors)
            products = accumulate(text, tile, weights, panels, length, tile.zeros())
            for number, product in enumerate(products):
                i, vector = divmod(number, vectors)
                offset = text.add(text.mul(text.add(row, i), width), column)
                place = self.part(layout.sums, text.add(offset, vector * registers.lanes))
                before = text.load(self.vector, place, 4 * registers.lanes)
                after = text.fma(self.vector, before, factors[i], product)
                text.store(self.vector, after, place, 4 * registers.lanes)

        span = min(4, width // registers.width) if size == 1 else 1
        step = span * registers.width
        whole = self.params.width // step * step
        text.loop(0, whole, step, lambda c, _: panel(c, span, span * registers.vectors))
        for column in range(whole, self.params.width, registers.width):
            rest = min(registers.width, self.params.width - column)
            panel(str(column), 1, -(-rest // registers.lanes))

    def multiply_values_in_place(self, unit: _Unit, start: Value, length: Value) -> None:
        """Write `multiply_values` for the only row of a unit, to the same bits, from unpacked V."""
        text, lanes, layout = self.text, self.registers.lanes, self.layout
        first = self.address(self.v, 6, unit.batch, unit.head, start)
        stride = self.strides[8]
        factor = text.splat(self.vector, text.load("float", self.part(layout.correction)))
        for group in range(0, self.params.width, 8 * lanes):
            columns = range(group, min(group + 8 * lanes, self.params.width), lanes)

            def key(index: Value, sums: list[Value], columns: range = columns) -> list[Value]:
                weight = text.load("float", self.part(layout.scores, index))
                weight = text.splat(self.vector, weight)
                row = text.at(first, text.mul(index, stride))
                following: list[Value] = []
                for column, total in zip(columns, sums, strict=True):
                    mask = mask_of(lanes, self.params.width - column)
                    value = load_lanes(text, self.vector, text.at(row, column), mask)
                    following.append(text.fma(self.vector, weight, value, total))
                return following

            zeros = [(self.vector, "zeroinitializer") for _ in columns]
            products = text.loop(0, length, 1, key, zeros)
            for column, product in zip(columns, products, strict=True):
                place = self.part(layout.sums, column)
                before = text.load(self.vector, place, 4 * lanes)
                after = text.fma(self.vector, before, factor, product)
                text.store(self.vector, after, place, 4 * lanes)

    def finish_row(self, unit: _Unit, row: Value, width: int) -> None:
        """Divide a row by its sum of weights and store it."""
        text, lanes = self.text, self.registers.lanes
        number = text.add(unit.first, row)
        local = text.udiv(number, self.rows)
        head = text.add(text.mul(unit.head, self.params.group), local)
        line = self.address(self.out, 9, unit.batch, head, text.urem(number, self.rows))
        one = TextPrim(text, 1)
        total = one.num("f32", text.load("float", self.part(self.layout.total, row)))
        inverse = 1.0 / total
        if not self.params.nan_unseen:
            inverse = where(total.equals(0.0), 0.0, inverse)
        factor = text.splat(self.vector, inverse.value)
        sums = self.part(self.layout.sums, text.mul(row, width))
        for column in range(0, self.params.width, lanes):
            value = text.load(self.vector, text.at(sums, column), 4 * lanes)
            value = text.binary("fmul", self.vector, value, factor)
            mask = mask_of(lanes, self.params.width - column)
            store_lanes(text, self.vector, value, text.at(line, column), mask)
