"""What the jail says it can enforce on this machine, and that it refuses where it cannot."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sandbox_help import OPTIONS, ROOT, package_of

from torsh_package.code import (
    Capabilities,
    Sandbox,
    SandboxOptions,
    capabilities,
    probe,
)
from torsh_package.errors import (
    SandboxLimitError,
    SandboxUnavailableError,
)


def test_own_process_table_where_namespaces_work() -> None:
    package = package_of(m="import os\ndef f(): return os.getpid()\n")
    pid = Sandbox(OPTIONS).run(package, "m:f")
    assert (pid < 10) == bool(probe().namespaces)
    assert Sandbox(replace(OPTIONS, namespaces=False)).run(package, "m:f") > 10


def test_limits_are_named_in_namespaces_too() -> None:
    package = package_of(m="def f():\n    while True: pass\n")
    with pytest.raises(SandboxLimitError, match="processor time"):
        Sandbox(replace(OPTIONS, cpu_seconds=1)).run(package, "m:f")
    with pytest.raises(SandboxLimitError, match="wall_seconds"):
        Sandbox(replace(OPTIONS, wall_seconds=0.5)).run(package, "m:f")


def test_the_words_for_namespaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links to the dynamic loader's folder are made anew inside bubblewrap."""
    words = capabilities.namespace_command("bwrap", "/usr/bin/bwrap", ["/usr/lib"])
    for link in ("/lib", "/lib64"):
        target = Path(link).readlink() if Path(link).is_symlink() else None
        assert (link in words) == (target is not None)
    assert words[1:5] == ["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop"]
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    probe.cache_clear()
    try:
        assert probe().namespaces == ""  # found, but it does not work; unshare is not found
        assert any("namespaces" in reason for reason in probe().reasons)
    finally:
        probe.cache_clear()


# Machines that lack a layer.
MISSING = {
    "no landlock": Capabilities(0, True, True, "", ("no Landlock here",)),
    "no seccomp": Capabilities(5, False, True, "unshare", ("no seccomp here",)),
    "nothing": Capabilities(0, False, False, "", ("another system",)),
}


@pytest.mark.parametrize("name", MISSING)
def test_strict_refuses_where_a_layer_is_missing(name: str, tmp_path: Path) -> None:
    lacking = MISSING[name]
    assert not lacking.strict
    mark = tmp_path / "ran"
    package = package_of(m=f"open({str(mark)!r}, 'w')\ndef f(): return 1\n")
    with pytest.raises(SandboxUnavailableError, match="nothing was run") as caught:
        Sandbox(SandboxOptions(), lacking).run(package, "m:f")
    assert not mark.exists()
    assert lacking.reasons[0] in str(caught.value)
    assert "NOT ENFORCED" in str(caught.value)


def test_the_report_tells_what_is_missing() -> None:
    report = MISSING["no landlock"].enforced(strict=True)
    assert report["file access"] == ""
    assert report["network"] == "seccomp"
    assert all(value for key, value in Capabilities(5, True, True, "bwrap").enforced(True).items())
    process = Capabilities(5, True, True, "").enforced(strict=False)
    assert process["file access"] == process["network"] == ""


BROKEN_KERNEL = """
import struct, sys
from torsh_package import Package
from torsh_package.code import Capabilities, Sandbox, linux
from torsh_package.errors import SandboxUnavailableError
linux.no_new_privileges()
block = struct.pack("<HBBI", 0x20, 0, 0, 0) + struct.pack("<HBBI", 0x15, 0, 1, int(sys.argv[1]))
block += struct.pack("<HBBI", 6, 0, 0, 0x00050000 | 38) + struct.pack("<HBBI", 6, 0, 0, 0x7FFF0000)
linux.install_filter(block)
package = Package("m", "1.0.0")
package.add_source_file("m", "print('ran')\\ndef f(): return 1\\n")
claimed = Capabilities(7, True, True, "")
for capabilities in (claimed, None):
    try:
        print(Sandbox(capabilities=capabilities).run(package, "m:f"))
    except SandboxUnavailableError as error:
        print("REFUSED", str(error).splitlines()[0])
"""


@pytest.mark.parametrize("number", [444, 446, 317], ids=["landlock", "restrict", "seccomp"])
def test_a_kernel_that_refuses_is_believed(number: int) -> None:
    """One system call of the jail gets ENOSYS; the child must notice before any code runs."""
    if not probe().seccomp:
        assert not probe().strict
        return
    done = subprocess.run([sys.executable, "-c", BROKEN_KERNEL, str(number)], capture_output=True,
                          text=True, cwd=ROOT, timeout=60)  # fmt: skip
    lines = done.stdout.splitlines()
    assert "ran" not in lines, done.stdout
    assert len(lines) == 2, done.stderr
    assert all(line.startswith("REFUSED") for line in lines), done.stdout
