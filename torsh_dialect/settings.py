"""The options of a compilation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Numerics = Literal["default", "strict", "fast"]
StreamName = Literal["philox", "mt19937"]


@dataclass(frozen=True)
class Settings:
    """Options of a compilation; every field changes behaviour.

    Attributes:
        numerics: `default`, `strict` (no value-changing rewrites) or `fast`.
        disabled_rewrites: Names of value-changing rewrites that are switched off.
        verify_each: Verify the module after every pass.
        dump_dir: Write the IR of every stage into this folder.
        random: The stream that models draw random numbers from: `philox`, which is drawn in
            parallel, or `mt19937`, with the numbers of eager torch on the CPU
            (`torsh_fx.random`). ONNX models always draw from `philox`.
        in_process: Generate code in this process instead of workers, for debugging.
    """

    numerics: Numerics = "default"
    disabled_rewrites: frozenset[str] = frozenset()
    verify_each: bool = False
    dump_dir: str | None = None
    random: StreamName = "philox"
    in_process: bool = False

    def allows(self, rewrite: str) -> bool:
        """Whether the value-changing rewrite of that name may be applied."""
        return self.numerics != "strict" and rewrite not in self.disabled_rewrites


def environment_settings(environ: Mapping[str, str]) -> Settings:
    """The settings that environment variables ask for."""
    return Settings(
        verify_each=environ.get("TORSH_VERIFY_EACH") == "1",
        dump_dir=environ.get("TORSH_DUMP") or None,
        in_process=environ.get("TORSH_INPROCESS") == "1",
    )
