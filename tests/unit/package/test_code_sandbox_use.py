"""Honest code in the jail; without strict mode on this machine, the same in `process` mode."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sandbox_help import MODE, OPTIONS, ROOT, package_of

from torsh_package.code import (
    Call,
    CodePolicy,
    CodeTable,
    Mode,
    Sandbox,
    SandboxOptions,
    probe,
)
from torsh_package.errors import (
    CodePolicyError,
    InvalidArgumentError,
    SandboxCodeError,
    SandboxLimitError,
)

VALUES = [
    None, True, 3, -2.5, "tëxt", b"\0\xff", [1, [2]], (1, "a"), {"k": (b"x", None)}, 1 << 70,
    float("inf"),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_cross_the_border(value: object) -> None:
    package = package_of(echo="def f(x, *, y): return [x, y]\n")
    assert Sandbox(OPTIONS).run(package, "echo:f", value, y=value) == [value, value]


@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "u8", "?", "c8", "f2", ">i4"])
def test_arrays_cross_the_border(dtype: str) -> None:
    policy = CodePolicy().intern("twice").extern("numpy.**")
    source = "import numpy as np\ndef f(x): return np.asarray(x), x.T, x[0, 0]\n"
    package = package_of(policy, twice=source)
    array = np.arange(6).reshape(2, 3).astype(dtype)
    same, turned, scalar = Sandbox(OPTIONS).run(package, "twice:f", array)
    assert np.array_equal(same, array)
    assert same.dtype == array.dtype.newbyteorder("<")
    assert np.array_equal(turned, array.T)
    assert scalar == array[0, 0]


def test_arrays_without_numpy() -> None:
    package = package_of(total="def f(x): return [x.shape, x.format, x[1, 2]]\n")
    options = replace(OPTIONS, numpy=False)
    found = Sandbox(options).run(package, "total:f", np.arange(6, dtype=np.int32).reshape(2, 3))
    assert found == [(2, 3), "i", 5]


def test_modules_of_one_name_coexist() -> None:
    source = "from . import part\nimport net.part\ndef f(): return part.N, net.part is part\n"
    first = package_of(net__model=source, net__part="N = 1\n", net__INIT="")  # fmt: skip
    second = package_of(net__model="from net.part import N\ndef f(): return N, __name__\n",
                        net__part="N = 2\n", net__INIT="")  # fmt: skip
    entries = [(first, "net.model:f"), (second, "net.model:f"), (first, "net.part:N.bit_length")]
    found = Sandbox(OPTIONS).run_calls([Call(package, entry) for package, entry in entries])
    assert found.values == ((1, True), (2, "<torshpkg_1>.net.model"), 1)


def test_mocks_import_and_refuse_use() -> None:
    policy = CodePolicy().intern(["m"]).mock("wandb.**")
    source = "import wandb\nfrom wandb.sdk import run\ndef f(): return 1\ndef g(): run.start()\n"
    package = package_of(policy, ("wandb", "wandb.sdk"), m=source)
    assert Sandbox(OPTIONS).run(package, "m:f") == 1
    with pytest.raises(SandboxCodeError, match=r"MockError.*wandb\.sdk\.run was mocked"):
        Sandbox(OPTIONS).run(package, "m:g")


@pytest.mark.parametrize(
    "module", ["torsh_package", "pytest", "subprocess", "numpy", "sibling_not_there"]
)
def test_undeclared_modules_are_not_there(module: str) -> None:
    package = package_of(m=f"def f():\n    import {module}\n")
    with pytest.raises(SandboxCodeError, match=rf"ModuleNotFoundError: {module} is neither"):
        Sandbox(OPTIONS).run(package, "m:f")


def test_denied_modules_are_not_there() -> None:
    package = package_of(CodePolicy().deny("json.**").intern("m"), m="def f():\n    import json\n")
    with pytest.raises(SandboxCodeError, match="json is neither"):
        Sandbox(OPTIONS).run(package, "m:f")


def test_printed_text_and_report() -> None:
    package = package_of(
        m="import sys\ndef f():\n    print('out')\n    print('err', file=sys.stderr)\n"
    )
    found = Sandbox(OPTIONS).run_calls([Call(package, "m:f")])
    assert (found.stdout, found.stderr.strip(), found.value) == ("out\n", "err", None)
    assert "RLIMIT_AS" in found.enforced["rlimits"]  # pyright: ignore[reportOperatorIssue]
    if MODE is Mode.STRICT:
        assert found.enforced["landlock"] == probe().landlock
        assert found.enforced["seccomp"] is True


def test_the_child_inherits_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    package = package_of(
        m="import os, sys\ndef f(): return dict(os.environ), sys.path, sorted(sys.modules)\n"
    )
    with (tmp_path / "open").open("w") as held:
        environment, path, modules = Sandbox(OPTIONS).run(package, "m:f")
        assert held.writable()
    assert "TOKEN" not in environment
    assert not any("torsh" in name for name in modules)
    installed = sys.prefix  # a virtual environment may stand inside the project
    assert not [entry for entry in path if str(ROOT) in entry and not entry.startswith(installed)]


def test_changed_code_does_not_run() -> None:
    package = package_of(CodePolicy().intern("m"), m="def f(): return 1\n")
    assert package.code is not None
    table = CodeTable.from_json(package.code)
    table.modules["m"] = (table.modules["m"][0], False, "0" * 64)
    package.code = table.to_json()
    with pytest.raises(CodePolicyError, match="captured"):
        Sandbox(OPTIONS).run(package, "m:f")


@pytest.mark.parametrize("entry", ["m", "m:", ":f", "m:f()", "m:f.__class__ ", "../m:f", "m:f\n"])
def test_malformed_entries(entry: str) -> None:
    with pytest.raises(InvalidArgumentError, match="module:function"):
        Sandbox(OPTIONS).run(package_of(m="def f(): return 1\n"), entry)


@pytest.mark.parametrize(
    "value",
    [object(), {1: 2}, {"$array": 0}, np.array(["text"]), np.array([None])],
    ids=["object", "number-key", "reserved-key", "text-array", "object-array"],
)
def test_what_cannot_enter(value: object) -> None:
    with pytest.raises(InvalidArgumentError):
        Sandbox(OPTIONS).run(package_of(m="def f(x): return x\n"), "m:f", value)


@pytest.mark.parametrize("options", [{"memory": 0}, {"cpu_seconds": -1}, {"wall_seconds": 0}])
def test_malformed_options(options: dict) -> None:
    with pytest.raises(InvalidArgumentError):
        SandboxOptions(**options)


def test_result_limit() -> None:
    options = replace(OPTIONS, result=1 << 20)
    with pytest.raises(SandboxLimitError, match="answer is over"):
        Sandbox(options).run(package_of(m="def f(): return bytes(3 << 20)\n"), "m:f")
