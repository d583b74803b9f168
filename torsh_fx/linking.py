"""From code and a model's own weights to a program that runs. Imports no compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lowering.runtime.executable import PREPARE, Executable, Program
from lowering.runtime.signature import Array
from lowering.runtime.spec import ProgramSpec
from torsh_fx.weights import Preparation


@dataclass(frozen=True)
class Code:
    """A program without the model's weights.

    Attributes:
        spec: What it is.
        objects: Its machine code.
        constants: Weights that the compiler made.
    """

    spec: ProgramSpec
    objects: Sequence[bytes]
    constants: Mapping[str, Array]


@dataclass(frozen=True)
class Parts:
    """A program and what makes its weights.

    Attributes:
        main: The program.
        prepare: Makes prepared weights of the model's own; None where nothing needs it.
        host: Object of the thread pool.
    """

    main: Code
    prepare: Code | None
    host: bytes

    def link(self, raw: Mapping[str, Array]) -> tuple[Program, Preparation]:
        """Prepare the weights, and link.

        Raises:
            CodegenError: The objects do not link.
            ExecutionError: This machine cannot run the code, or memory ran out.
        """
        entry = None
        if self.prepare is not None:
            code = self.prepare
            entry = Executable(Program(code.spec, code.objects, code.constants, host=self.host),
                               PREPARE)  # fmt: skip
        preparation = Preparation(self.main.spec, self.main.constants, entry)
        prepared = preparation.prepared(raw)
        return Program(self.main.spec, self.main.objects, prepared, host=self.host), preparation

    @property
    def raw_names(self) -> list[str]:
        """Names of the model's own weights that `link` reads."""
        made, needed = set(self.main.constants), list[str]()
        if self.prepare is not None:
            entry = self.prepare.spec.entry(PREPARE)
            made |= {one.name for one in entry.outputs}
            needed = [one.name for one in entry.inputs]
        return [*needed, *(w.name for w in self.main.spec.weights if w.name not in made)]
