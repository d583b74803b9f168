"""Packages of code for the tests of the sandbox."""

from dataclasses import replace
from pathlib import Path

from torsh_package import Package
from torsh_package.code import (
    CodePolicy,
    Mode,
    SandboxOptions,
    code_table,
    probe,
)

ROOT = Path(__file__).parents[3]
# On machines without strict mode the same code runs in `process` mode.
MODE = Mode.STRICT if probe().strict else Mode.PROCESS
OPTIONS = SandboxOptions(mode=MODE)


def package_of(
    policy: CodePolicy | None = None, mocks: tuple[str, ...] = (), **sources: str
) -> Package:
    package = Package("code", "1.0.0")
    for name, text in sources.items():
        package.add_source_file(name.replace("__", "/").replace("INIT", "__init__") + ".py", text)
    if policy is not None:
        package.code = replace(code_table(package), policy=policy, mocks=mocks).to_json()
    return package
