"""Writing every stage of a compilation into a folder, to look at or to send with a report.

`TORSH_DUMP=folder` (or `Settings.dump_dir`) gives one folder per compilation in it, named by
number: the module as imported and after each pass (`00-imported.mlir`, `01-canonicalize.mlir`,
...), the `kern` functions (`kern.mlir`), LLVM IR and assembly of each unit (`*.ll`, `*.s`), and
`repro.sh`, which runs the passes again with `torsh-opt`. No weight's data is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xdsl.dialects.builtin import ModuleOp

from torsh_dialect.settings import Settings
from torsh_dialect.target import TargetInfo
from torsh_fx.save import module_text

if TYPE_CHECKING:
    from lowering.codegen import CodegenUnit
    from lowering.program.build import Lowered
    from torsh_fx.pipeline import Stage

IMPORTED = "00-imported.mlir"


def new_folder(parent: Path) -> Path:
    """A new folder in `parent`, with the first free number for its name."""
    parent.mkdir(parents=True, exist_ok=True)
    number = 0
    while True:
        folder = parent / f"{number:03d}"
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


@dataclass
class Dump:
    """The folder of one compilation."""

    folder: Path
    count: int = field(default=0, init=False)

    @staticmethod
    def begin(settings: Settings, module: ModuleOp, target: TargetInfo) -> Dump | None:
        """The dump of a compilation of `module`, where the settings ask for one."""
        if settings.dump_dir is None:
            return None
        dump = Dump(new_folder(Path(settings.dump_dir)))
        (dump.folder / IMPORTED).write_text(module_text(module))
        options = [f"--target {target.name}", f"--numerics {settings.numerics}"]
        options += [f"--disable-rewrite {name}" for name in sorted(settings.disabled_rewrites)]
        (dump.folder / "repro.sh").write_text(
            "#!/bin/sh\n# The passes again; add --emit kern, llvm or asm for later stages.\n"
            f'torsh-opt "$(dirname "$0")/{IMPORTED}" -O {" ".join(options)} "$@"\n'
        )
        return dump

    def stage(self, stage: Stage) -> None:
        """Write the module after a pass."""
        self.count += 1
        name = f"{self.count:02d}-{stage.name}.mlir"
        (self.folder / name).write_text(module_text(stage.module))

    def lowered(
        self,
        programs: Sequence[Lowered],
        generate: Callable[[Sequence[CodegenUnit]], list[bytes]],
    ) -> None:
        """Write `kern` functions, LLVM IR and assembly."""
        functions = [str(one) for program in programs for one in program.functions]
        (self.folder / "kern.mlir").write_text("\n".join([*functions, ""]))
        units = [unit for program in programs for unit in program.units]
        for unit in units:
            (self.folder / f"{unit.name}.ll").write_text(unit.text)
        assembly = generate([replace(unit, emit="asm") for unit in units])
        for unit, text in zip(units, assembly, strict=True):
            (self.folder / f"{unit.name}.s").write_bytes(text)
