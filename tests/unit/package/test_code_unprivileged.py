"""The jail as an ordinary user, who has no capability to drop and owns nothing it could confine.

Root runs it as user 65534 in a mount namespace of its own. Folders there that only root may enter
(a Python under /root, say) are laid open at their paths, and nowhere else.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NOBODY = 65534

ATTACKS = {
    "nothing": ("def f(v): return 3 * v['three']", "RETURNED 9"),
    "numpy": ("import numpy\ndef f(v): return float(numpy.ones(7).sum())", "RETURNED 7.0"),
    "read a file": ("def f(v): return open(v['secret']).read()", "raised PermissionError"),
    "change a file": ("def f(v): open(v['secret'], 'a').write('x')", "raised PermissionError"),
    "connect": (
        "import socket\ndef f(v): socket.create_connection(('127.0.0.1', 9))",
        "raised PermissionError",
    ),
    "fork": ("import os\ndef f(v): os._exit(0) if os.fork() == 0 else 0", "PermissionError"),
    "signal the parent": ("import os\ndef f(v): os.kill(v['pid'], 9)", "PermissionError"),
    "own user namespace": (
        "import ctypes\ndef f(v): return ctypes.CDLL(None).unshare(0x10000000)",
        "RETURNED -1",
    ),
    "become root": ("import os\ndef f(v): os.setuid(0)", "PermissionError"),
    "memory": ("def f(v): return len(bytearray(1 << 40))", "memory|MemoryError"),
    "time": ("def f(v):\n    while True: pass", "LIMIT"),
}

DRIVER = """
import json, os, pathlib, sys, tempfile
from torsh_package import Package
from torsh_package.code import CodePolicy, CodeTable, Sandbox, SandboxOptions, code_table, probe
from torsh_package.errors import SandboxCodeError, SandboxLimitError

folder = tempfile.mkdtemp()
secret = pathlib.Path(folder, "secret")
secret.write_text("secret")
known = {"secret": str(secret), "three": 3, "pid": os.getpid()}
found = {}
for name, source in json.load(sys.stdin).items():
    package = Package("attack", "1.0.0")
    package.add_source_file("attack", source)
    everything = CodePolicy().intern("attack").extern("**")
    package.code = CodeTable(everything, code_table(package).modules, {}, ()).to_json()
    options = SandboxOptions(cpu_seconds=2, wall_seconds=20, namespaces=name != "nothing")
    try:
        found[name] = f"RETURNED {Sandbox(options).run(package, 'attack:f', known)!r}"
    except SandboxCodeError as error:
        found[name] = f"RAISED {error}"
    except SandboxLimitError as error:
        found[name] = f"LIMIT {error}"
assert secret.read_text() == "secret"
print(json.dumps({"uid": os.getuid(), "strict": probe().strict, "found": found}))
"""


def closed_folders() -> "dict[Path, list[Path]]":
    """Folders that others may not enter, with what has to be seen below them."""
    found: dict[Path, list[Path]] = {}
    needed = {sys.prefix, sys.base_prefix, sysconfig.get_path("platlib"), str(ROOT)}
    for path in map(Path, sorted(needed)):
        for parent in reversed(path.parents):
            if not parent.stat().st_mode & 1:
                found.setdefault(parent, []).append(path)
                break
    return found


def as_nobody(work: Path) -> list[str]:
    """A command prefix: user 65534, and what Python needs can be read."""
    lines = ["set -e"]
    for i, (closed, paths) in enumerate(closed_folders().items()):
        aside = work / str(i)
        aside.mkdir()
        a, c = shlex.quote(str(aside)), shlex.quote(str(closed))
        lines += [f"mount --bind {c} {a}", f"mount -t tmpfs -o mode=755 tmpfs {c}"]
        for path in paths:
            inside = shlex.quote(str(aside / path.relative_to(closed)))
            target = shlex.quote(str(path))
            lines += [f"mkdir -p {target}", f"mount --bind {inside} {target}"]
    user = f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --no-new-privs --"
    script = "\n".join([*lines, f'exec {user} "$@"'])
    return ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh"]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict:
    command = [sys.executable, "-B", "-c", DRIVER]
    if os.getuid() == 0:
        prefix = as_nobody(tmp_path_factory.mktemp("aside"))
        tools = all(map(shutil.which, ("unshare", "setpriv", "mount")))
        if not tools or subprocess.run([*prefix, "true"], capture_output=True).returncode:
            pytest.skip("root cannot become another user in a mount namespace here")
        prefix = as_nobody(tmp_path_factory.mktemp("aside"))
        command = [*prefix, *command]
    jobs = json.dumps({name: source for name, (source, _) in ATTACKS.items()})
    done = subprocess.run(command, input=jobs, capture_output=True, text=True, timeout=200,
                          cwd=ROOT, env={"PATH": os.environ["PATH"], "TMPDIR": "/tmp"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: dict = json.loads(done.stdout)
    if not result["strict"]:
        pytest.skip("strict mode cannot be enforced for ordinary users here")
    return result


def test_it_is_an_ordinary_user(outcome: dict) -> None:
    assert outcome["uid"] != 0


@pytest.mark.parametrize("name", ATTACKS)
def test_confined(outcome: dict, name: str) -> None:
    import re

    assert re.search(ATTACKS[name][1], outcome["found"][name], re.DOTALL), outcome["found"][name]
