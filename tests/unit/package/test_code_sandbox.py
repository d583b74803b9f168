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

import pytest
from sandbox_help import ROOT

from torsh_package.code import (
    Mode,
    probe,
)

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
