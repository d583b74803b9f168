"""The product of one row by a matrix in memory: each element of B is used once, so none is packed.

A unit is a group of panels: its columns are accumulators at once, each over all steps, in the same
order as by `batched` of more rows. Where the number of columns is dynamic there is code for each
number of whole panels, and for each number of vectors of which the last one is masked.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lowering.cpu.lanes import first_lanes
from lowering.cpu.templates.epilogue import load_lanes, mask_of
from lowering.cpu.templates.gemm import contract_steps
from lowering.cpu.templates.microkernel import UNROLL, Accumulators, Tile
from lowering.cpu.templates.schedule import ELEMENT_BYTES, Registers
from lowering.cpu.text import Text, Value, is_literal

Store = Callable[[Tile, list[Value], int | Value], None]
"""`(tile, values, real columns of its last panel)`: stores a finished row."""


@dataclass(frozen=True)
class RowProduct:
    """Writes `c = a @ B` for the columns of one unit.

    Attributes:
        text: The function being written.
        registers: The register tile; its panels are the unit's columns.
        k: Steps, static or an i64 value.
        a: Pointer to the row.
        b: Pointer to the unit's first column of B's first row.
        stride: Elements between rows of B.
    """

    text: Text
    registers: Registers
    k: Value
    a: Value
    b: Value
    stride: Value

    def columns(self, left: Value, panels: int, store: Store) -> None:
        """Write the product of the next `left` columns, of which `panels` panels are the unit's."""
        text, registers = self.text, self.registers
        most = panels * registers.vectors
        if is_literal(left):
            real = min(int(left), most * registers.lanes)
            self._vectors(-(-real // registers.lanes), str(real), store)
            return
        real = text.minimum(left, most * registers.lanes)
        for whole in range(registers.width, panels * registers.width + 1, registers.width):
            vectors = whole // registers.lanes
            this = text.compare("eq", real, whole)
            text.when(this, lambda n=vectors, r=str(whole): self._vectors(n, r, store))
        uneven = text.compare("ne", text.urem(real, registers.width), 0)
        count = text.ceildiv(real, registers.lanes)
        for vectors in range(1, most + 1):
            this = text.binary("and", "i1", uneven, text.compare("eq", count, vectors))
            text.when(this, lambda n=vectors: self._vectors(n, real, store))

    def _vectors(self, vectors: int, real: Value, store: Store) -> None:
        """Write `real` columns, which are so many vectors, the last one perhaps in part."""
        text, registers = self.text, self.registers
        lanes, width = registers.lanes, registers.width
        tile = Tile(registers, 1, vectors)
        rest = text.sub(real, (vectors - 1) * lanes)
        mask = mask_of(lanes, int(rest)) if is_literal(rest) else first_lanes(text, rest, lanes)

        def steps_from(first: Value, length: int | Value, values: Accumulators) -> Accumulators:
            def steps(index: Value, values: Accumulators, count: int) -> Accumulators:
                step = text.add(first, index)
                a = text.at(self.a, step, registers.element)
                row = text.at(self.b, text.mul(step, self.stride), registers.element)
                for offset in range(count):
                    values = self._step(
                        tile, text.at(a, offset, registers.element), row, mask, values
                    )
                    row = text.at(row, self.stride, registers.element)
                return values

            end = text.mul(text.udiv(length, UNROLL), UNROLL)
            carried = tile.carried(values)
            values = text.loop(0, end, UNROLL, lambda i, v: steps(i, v, UNROLL), carried)
            return text.loop(end, length, 1, lambda i, v: steps(i, v, 1), tile.carried(values))

        values = contract_steps(text, tile, self.k, steps_from)
        before = (vectors - 1) // registers.vectors * width
        columns = text.sub(real, before)
        store(tile, values, int(columns) if is_literal(columns) else columns)

    def _step(
        self, tile: Tile, a: Value, row: Value, mask: Value | None, values: Accumulators
    ) -> Accumulators:
        """One step: the element at `a` times the row of B at `row`."""
        text, element, lanes = self.text, self.registers.element, self.registers.lanes
        scalar = text.splat(tile.type, text.load(element, a, ELEMENT_BYTES[element], "a"))
        result: Accumulators = []
        for index, value in enumerate(values):
            last = mask if index == tile.vectors - 1 else None
            vector = load_lanes(text, tile.type, text.at(row, index * lanes, element), last)
            result.append(text.fma(tile.type, scalar, vector, value))
        return result
