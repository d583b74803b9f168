"""The jail, attacked.

All attacks run in a driver process inside user, PID and mount namespaces of its own where the
machine has them, and each is harmless by design besides (it kills a process that the driver
started for that, forks once, writes into the driver's folder), so that a broken jail cannot hurt
the host. Where strict mode cannot be enforced, its refusal and the honest report are checked.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from torsh_package import Package
from torsh_package.code import (
    Call,
    Capabilities,
    CodePolicy,
    CodeTable,
    Mode,
    Sandbox,
    SandboxOptions,
    capabilities,
    code_table,
    probe,
)
from torsh_package.errors import (
    CodePolicyError,
    InvalidArgumentError,
    SandboxCodeError,
    SandboxLimitError,
    SandboxUnavailableError,
)

ROOT = Path(__file__).parents[3]

# name -> (source of f(v), where v names what the driver prepared; what must come of it)
SYSCALL = "import ctypes\ndef call(*a):\n    l = ctypes.CDLL(None, use_errno=True)\n"
SYSCALL += "    r = l.syscall(*a)\n    return r if r >= 0 else -ctypes.get_errno()\n"
ATTACKS = {
    "read a file": ("def f(v): return open(v['secret']).read()", "PermissionError"),
    "read /etc/passwd": ("def f(v): return open('/etc/passwd').read(9)", "PermissionError"),
    "read own environment": (
        "def f(v): return open('/proc/self/environ').read()",
        "PermissionError",
    ),
    "list a folder": ("import os\ndef f(v): return os.listdir(v['folder'])", "PermissionError"),
    "write a file": ("def f(v): open(v['folder'] + '/w', 'w').write('x')", "PermissionError"),
    "append to a file": ("def f(v): open(v['secret'], 'a').write('x')", "PermissionError"),
    "delete a file": ("import os\ndef f(v): os.unlink(v['secret'])", "PermissionError"),
    "rename a file": (
        "import os\ndef f(v): os.rename(v['secret'], v['secret'] + '2')",
        "PermissionError",
    ),
    "make a folder": ("import os\ndef f(v): os.mkdir(v['folder'] + '/d')", "PermissionError"),
    "link": ("import os\ndef f(v): os.symlink('/etc', v['folder'] + '/l')", "PermissionError"),
    "change modes": ("import os\ndef f(v): os.chmod(v['secret'], 0o777)", "PermissionError"),
    "connect": (
        "import socket\ndef f(v): socket.create_connection(('127.0.0.1', v['port']))",
        "PermissionError",
    ),
    "listen": (
        "import socket\ndef f(v): socket.socket().bind(('127.0.0.1', 0))",
        "PermissionError",
    ),
    "datagram": (
        "import socket\ndef f(v): socket.socket(type=socket.SOCK_DGRAM)",
        "PermissionError",
    ),
    "unix socket": (
        "import socket\ndef f(v): socket.socket(socket.AF_UNIX).connect('\\0x')",
        "PermissionError",
    ),
    "fork": (
        "import os\ndef f(v):\n    p = os.fork()\n    if not p: os._exit(0)\n    return p",
        "PermissionError",
    ),
    "run a command": (
        "import subprocess\ndef f(v): return subprocess.run(['/bin/true']).returncode",
        "PermissionError",
    ),
    "shell": (
        "import os\ndef f(v): return os.system('true')",
        "-1|PermissionError|RETURNED -1|32512",
    ),
    "kill another process": ("import os\ndef f(v): os.kill(v['victim'], 9)", "PermissionError"),
    "memory file": ("import os\ndef f(v): os.memfd_create('x')", "PermissionError"),
    "raise own limits": (
        "import resource\ndef f(v): resource.setrlimit(resource.RLIMIT_CPU, (99, 99))",
        "PermissionError|ValueError",
    ),
    "limit another process": (
        "import resource as r\ndef f(v): r.prlimit(v['victim'], r.RLIMIT_CPU, (9, 9))",
        "PermissionError",
    ),
    "change identity": ("import os\ndef f(v): os.setuid(65534)", "PermissionError"),
    "execve by hand": (SYSCALL + "def f(v): return call(59, b'/bin/true', 0, 0)", "RETURNED -1$"),
    "ptrace": (SYSCALL + "def f(v): return call(101, 16, v['victim'], 0, 0)", "RETURNED -1$"),
    "read other memory": (
        SYSCALL + "def f(v): return call(310, v['victim'], 0, 0, 0, 0, 0)",
        "RETURNED -1$",
    ),
    "io_uring": (SYSCALL + "def f(v): return call(425, 4, bytes(120))", "RETURNED -1$"),
    "new namespace": (SYSCALL + "def f(v): return call(272, 0x10000000)", "RETURNED -1$"),
    "mount": (
        SYSCALL + "def f(v): return call(165, b'none', b'/', b'tmpfs', 0, 0)",
        "RETURNED -1$",
    ),
    "bpf": (SYSCALL + "def f(v): return call(321, 0, 0, 0)", "RETURNED -1$"),
    "clone3": (SYSCALL + "def f(v): return call(435, bytes(88), 88)", "RETURNED -38$"),
    "clone a process": (SYSCALL + "def f(v): return call(56, 17, 0, 0, 0, 0)", "RETURNED -1$"),
    "terminal input": (SYSCALL + "def f(v): return call(16, 0, 0x5412, b'x')", "RETURNED -1$"),
    "32-bit calls": (SYSCALL + "def f(v): return call(0x40000000 + 39)", "LIMIT"),
    "writable code": (
        "import mmap\ndef f(v): return mmap.mmap(-1, 4096, prot=7) and 1",
        "PermissionError",
    ),
    "code from data": (
        SYSCALL + "import mmap\ndef f(v):\n    m = mmap.mmap(-1, 4096)\n"
        "    a = ctypes.addressof(ctypes.c_char.from_buffer(m))\n"
        "    return call(10, ctypes.c_void_p(a), 4096, 5)",
        "RETURNED -1$",
    ),
    "allocate 4 GB": ("def f(v): return len(bytearray(4 << 30))", "MemoryError"),
    "grow without end": (
        "def f(v):\n    x = []\n    while True: x.append(bytearray(10 << 20))",
        "MemoryError|LIMIT",
    ),
    "compute without end": ("def f(v):\n    while True: pass", "LIMIT.*(time|seconds|CPU)"),
    "sleep": ("import time\ndef f(v): time.sleep(60)", "LIMIT.*wall_seconds"),
    "bad regular expression": ("import re\ndef f(v): re.match(r'(a+)+$', 'a' * 40 + 'b')", "LIMIT"),
    "crash": ("import ctypes\ndef f(v): ctypes.string_at(0)", "LIMIT.*(segmentation|139|11)"),
    "exit": ("import os\ndef f(v): os._exit(0)", "LIMIT.*ended the child"),
    "flood": ("def f(v):\n    while True: print('x' * 65536)", "LIMIT.*stdout is over"),
    "flood the answer": (
        "import os\ndef f(v):\n    for fd in range(3, 64):\n        try:\n"
        "            while True: os.write(fd, b'x' * 65536)\n        except OSError: pass",
        "LIMIT.*answer is over|RAISED",
    ),
    "forge the answer": (
        "import os, struct\ndef f(v):\n    for fd in range(3, 64):\n        try:\n"
        "            os.write(fd, struct.pack('<Q', 1 << 60))\n        except OSError: pass\n"
        "    os._exit(0)",
        "LIMIT|RAISED",
    ),
    "recursion": ("def f(v): return f(v)", "RecursionError"),
    "nested result": (
        "def f(v):\n    x = []\n    for _ in range(99): x = [x]\n    return x",
        "TypeError",
    ),
    "object as result": ("def f(v): return object()", "TypeError"),
}
# Attacks that must succeed without the jail, or they would show nothing.
CONTROLS = [
    "read a file", "list a folder", "write a file", "make a folder", "link",
    "connect", "fork", "run a command", "kill another process", "memory file", "datagram",
    "writable code", "execve by hand", "limit another process",
]  # fmt: skip

DRIVER = """
import json, os, pathlib, socket, subprocess, sys, tempfile
from torsh_package import Package
from torsh_package.code import CodePolicy, CodeTable, Mode, Sandbox, SandboxOptions, code_table
from torsh_package.errors import SandboxCodeError, SandboxLimitError, SandboxUnavailableError

subprocess.run(["ip", "link", "set", "lo", "up"], check=False, capture_output=True)
folder = tempfile.mkdtemp()
secret = os.path.join(folder, "secret")
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(64)

def attempt(name, source, mode):
    pathlib.Path(secret).write_text("secret")
    for left in ("w", "d", "l"):
        path = os.path.join(folder, left)
        os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else (
            os.unlink(path) if os.path.lexists(path) else None)
    victim = subprocess.Popen(["sleep", "100"])
    package = Package("attack", "1.0.0")
    package.add_source_file("attack", source)
    everything = CodePolicy().intern("attack").extern("**")  # the jail must hold, not the policy
    package.code = CodeTable(everything, code_table(package).modules, {}, ()).to_json()
    known = {"secret": secret, "folder": folder, "port": listener.getsockname()[1],
             "victim": victim.pid}
    options = SandboxOptions(mode=mode, namespaces=False, cpu_seconds=1, wall_seconds=2,
                             numpy=False, memory=512 << 20, result=1 << 20)
    try:
        text = f"RETURNED {Sandbox(options).run(package, 'attack:f', known)!r}"
    except SandboxCodeError as error:
        text = f"RAISED {error}"
    except SandboxLimitError as error:
        text = f"LIMIT {error}"
    except SandboxUnavailableError as error:
        text = f"UNAVAILABLE {error}"
    try:
        victim.wait(1 if name == "kill another process" else 0.01)
        text += " VICTIM DIED"
    except subprocess.TimeoutExpired:
        pass
    victim.kill()
    victim.wait()
    if pathlib.Path(secret).exists() and pathlib.Path(secret).read_text() != "secret":
        text += " SECRET CHANGED"
    return text

job = json.load(sys.stdin)
results = {name: attempt(name, text, job["mode"]) for name, text in job["attacks"].items()}
print(json.dumps(results))
"""


def contained(command: list[str]) -> list[str]:
    """`command` in user, PID, mount and network namespaces of its own, where that works."""
    tool = shutil.which("unshare")
    words = ["-U", "-r", "-p", "-f", "-m", "-n", "-i", "--mount-proc", "--kill-child"]
    if tool and subprocess.run([tool, *words, "true"], capture_output=True).returncode == 0:
        return [tool, *words, *command]
    return command


def drive(mode: Mode, names: list[str]) -> dict[str, str]:
    job = {"mode": mode, "attacks": {name: ATTACKS[name][0] for name in names}}
    done = subprocess.run(
        contained([sys.executable, "-c", DRIVER]), input=json.dumps(job), capture_output=True,
        text=True, timeout=200, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def jailed() -> dict[str, str]:
    return drive(Mode.STRICT, list(ATTACKS))


@pytest.fixture(scope="module")
def unjailed() -> dict[str, str]:
    return drive(Mode.PROCESS, CONTROLS)


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_fail(jailed: dict[str, str], name: str) -> None:
    outcome = jailed[name]
    assert "DIED" not in outcome
    assert "CHANGED" not in outcome
    if not probe().strict:
        assert outcome.startswith("UNAVAILABLE")
        assert "NOT ENFORCED" in outcome
        return
    import re

    assert re.search(ATTACKS[name][1], outcome, re.DOTALL), outcome


@pytest.mark.parametrize("name", CONTROLS)
def test_the_attacks_are_real(unjailed: dict[str, str], name: str) -> None:
    """Without the jail each of them does what it is meant to do."""
    assert "PermissionError" not in unjailed[name]
    expected = {"kill another process": "VICTIM DIED",
                "execve by hand": "ended the child"}  # fmt: skip
    assert expected.get(name, "RETURNED") in unjailed[name], unjailed[name]


# Honest use. On machines without strict mode the same code runs in `process` mode.

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
