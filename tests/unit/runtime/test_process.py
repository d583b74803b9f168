"""What a process sees of a loaded program: system calls, sockets, forks, idle time, memory.

Each case runs in a fresh process, because it ends or confines it.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SIGKILL, SIGSYS = -9, -31

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed"
)


def in_process(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script that may import ours and `runtime_programs`; one thread for numpy."""
    path = os.pathsep.join([str(ROOT), str(HERE)])
    environ = {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, env=environ
    )


def succeed(script: str, *arguments: object) -> str:
    """The standard output of a script that must end well."""
    done = in_process(script, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


SEALED = """
import sys
import numpy as np
from runtime_programs import add_executable
from sealed_calls import call_sealed
count, threads, warm = map(int, sys.argv[1:])
a = np.arange(count, dtype="f4"); y = np.zeros_like(a)
call = add_executable(threads).bind([a, a + 1], [y])
if warm:
    call()
call_sealed(call, y, 2 * a + 1)
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86-64")
def test_ten_thousand_calls_make_no_system_call() -> None:
    done = in_process(SEALED, 1_000, 1, 1)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86-64")
def test_the_seal_does_kill() -> None:
    # Control of the test above: the first call with two threads has to make a thread.
    assert in_process(SEALED, 100_000, 2, 0).returncode == SIGKILL


NO_SOCKETS = """
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
def seal():
    # BPF: load the system call's number; socket, connect and socketpair kill, all else goes on
    forbidden = (41, 42, 53)
    rows = [(0x20, 0, 0, 0)]
    for i, number in enumerate(forbidden):
        rows.append((0x15, len(forbidden) - i, 0, number))
    rows += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x80000000)]
    code = b"".join(struct.pack("HBBI", *row) for row in rows)
    keep = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", len(rows), ctypes.addressof(keep))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0) == 0
seal()
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86-64")
def test_compile_load_and_run_open_no_socket(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
import numpy as np
from runtime_programs import ADD_SPEC, TARGET, add_module
from lowering.cache import ObjectCache
from lowering.codegen import CodeGenerator, CodegenUnit
from lowering.runtime.executable import Executable, RunOptions
from lowering.runtime.load import load_program, save_program
folder = Path(sys.argv[1])
for turn in range(2):
    tool = CodeGenerator(cache=ObjectCache(folder / "cache"))
    objects = tool.compile([CodegenUnit("add", add_module(), TARGET)])
    tool.close()
save_program(folder / "p", ADD_SPEC, objects, {})
run = Executable(load_program(folder / "p"), options=RunOptions(threads=2)).run
a = np.ones(10_000, "f4")
assert (run([a, a])[0] == 2).all()
print("done")
"""
    assert succeed(NO_SOCKETS + script, tmp_path) == "done\n"
    assert in_process(NO_SOCKETS + "import socket; socket.socket()").returncode == SIGSYS


FORKS = """
import sys
import numpy as np
{prelude}
from fork_rounds import fork_rounds
from runtime_programs import add_executable
rounds, busy = int(sys.argv[1]), len(sys.argv) > 2
executable = add_executable(2)
host = executable.host
n = 20_000
a, b = np.arange(n, dtype="f4"), np.ones(n, "f4")
right = a + b
def good():
    return (executable.run([a, b])[0] == right).all()
assert good()
assert host.uses_gomp is {gomp}, "which pool"
fork_rounds(
    good, lambda turn: not host.uses_gomp and host.workers() == 1, rounds, busy=busy
)
print("done")
"""


def test_a_loaded_model_survives_a_hundred_rounds_of_eight_forks() -> None:
    assert succeed(FORKS.format(prelude="", gomp=False), 100) == "done\n"


def test_forks_while_other_threads_are_inside_the_pool() -> None:
    assert succeed(FORKS.format(prelude="", gomp=False), 10, "busy") == "done\n"


@needs_torch
def test_forked_children_never_enter_the_libgomp_of_torch() -> None:
    prelude = "import torch; torch.set_num_threads(2); torch.ones(1 << 20).relu().sum()"
    assert succeed(FORKS.format(prelude=prelude, gomp=True), 20) == "done\n"


@needs_torch
def test_torch_imported_later_brings_its_threads() -> None:
    script = """
import os
import numpy as np
from runtime_programs import add_executable
executable = add_executable(2)
a = np.ones(50_000, "f4")
def threads():
    return len(os.listdir("/proc/self/task"))
executable.run([a, a])
assert not executable.host.uses_gomp and executable.host.workers() == 1
import torch
torch.set_num_threads(2)
torch.ones(1 << 20).relu()
before = threads()
for _ in range(50):
    assert (executable.run([a, a])[0] == 2).all()
assert executable.host.uses_gomp
assert threads() == before, "a second pool was made"
print("done")
"""
    assert succeed(script) == "done\n"


def test_libgomp_is_looked_for_once_where_torch_has_none() -> None:
    script = """
import sys
import numpy as np
from runtime_programs import add_executable
executable = add_executable(2)
a = np.ones(100, "f4")
executable.run([a, a])
assert not executable.host.gomp_settled
sys.modules["torch._C"] = sys
executable.run([a, a])
print(executable.host.gomp_settled, executable.host.uses_gomp)
"""
    assert succeed(script) == "True False\n"


@needs_torch
def test_a_child_of_multiprocessing_that_imports_us_late_does_not_hang() -> None:
    script = """
import multiprocessing, signal, sys
import torch
torch.set_num_threads(2)
torch.ones(1 << 20).relu()
assert not [name for name in sys.modules if name.startswith("lowering")]
def child():
    signal.alarm(20)
    import numpy as np
    from runtime_programs import add_executable, generator
    executable = add_executable(2)
    generator().close()
    a = np.ones(50_000, "f4")
    assert (executable.run([a, a])[0] == 2).all()
    assert not executable.host.uses_gomp and executable.host.workers() == 1
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
print(process.exitcode)
"""
    assert succeed(script) == "0\n"


@needs_torch
def test_the_threads_of_torch_run_every_unit_once_in_the_right_mode() -> None:
    script = """
import random
import numpy as np
import torch
torch.set_num_threads(2)
torch.ones(1 << 20).relu()
from runtime_programs import add_executable
from test_thread_pool import DENORMAL, count_units, counting_kernel
from lowering.runtime.host import native_host
native_host().find_gomp()
assert native_host().uses_gomp
code = counting_kernel()
rng = random.Random(0)
for _ in range(300):
    n, grain, threads = rng.randrange(300), rng.randrange(-1, 100), rng.randrange(1, 4)
    units, _ = count_units(code, n, grain, threads)
    assert units[:n].tolist() == [1] * n and units[n] == 0
inputs = [np.full(4096, DENORMAL), np.zeros(4096, "f4")]
for flush in (False, True, False):
    y = add_executable(2, flush=flush).run(inputs)[0]
    assert (y == (0 if flush else DENORMAL)).all()
torch.set_flush_denormal(True)  # in torch's threads, not in ours
assert (add_executable(2).run(inputs)[0].view("i4") == DENORMAL.view("i4")).all()
assert native_host().workers() == 0
print("done")
"""
    assert succeed(script) == "done\n"


def test_a_warm_cache_needs_no_llvm(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
import numpy as np
from runtime_programs import ADD_SPEC, TARGET, add_module
from lowering.codegen import CodeGenerator, CodegenSettings, CodegenUnit, host_unit
from lowering.cache import ObjectCache
from lowering.runtime import Executable, Program
cache = ObjectCache(Path(sys.argv[1]))
tool = CodeGenerator(CodegenSettings(timeout_s=float(sys.argv[2])), cache)
code, host = tool.compile([CodegenUnit("add", add_module(), TARGET), host_unit(TARGET)])
tool.close()
run = Executable(Program(ADD_SPEC, [code], host=host)).run
assert (run([np.ones(9, "f4")] * 2)[0] == 2).all()
print(cache.stats.hits, "llvmlite.binding" in sys.modules)
"""
    assert succeed(script, tmp_path / "cache", 60) == "0 False\n"
    assert succeed(script, tmp_path / "cache", 0) == "2 False\n"


def test_an_idle_model_uses_no_processor() -> None:
    script = """
import resource, time
import numpy as np
from runtime_programs import add_executable, generator
executable = add_executable(2)
generator().close()
a = np.ones(100_000, "f4")
for _ in range(100):
    executable.run([a, a])
assert executable.host.workers() == 1
def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
time.sleep(0.01)
before = used()
time.sleep(5)
print(used() - before)
"""
    assert float(succeed(script)) < 0.01  # one tick of the scheduler's accounting


def test_memory_that_the_system_refuses_is_an_error() -> None:
    script = """
import resource
import numpy as np
from runtime_programs import add_executable
from torsh_dialect.errors import ExecutionError
small, big = add_executable(), add_executable(arena=3 << 30)
a = np.ones(100, "f4")
small.run([a, a])
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (now + (1 << 30), -1))
try:
    big.run([a, a])
except ExecutionError as error:
    print(error)
assert (small.run([a, a])[0] == 2).all()
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
assert (big.run([a, a])[0] == 2).all()
"""
    assert succeed(script).startswith("out of memory: 32212")


def test_dropped_programs_give_their_memory_back() -> None:
    script = """
import gc
import numpy as np
from runtime_programs import add_executable
a = np.ones(1_000_000, "f4")
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
def once():
    executable = add_executable()
    assert (executable.run([a, a])[0] == 2).all()
for _ in range(20):
    once()
before = resident()
for _ in range(200):
    once()
print(resident() - before)
"""
    assert int(succeed(script)) < 8 << 20  # a leak of the arenas alone would be 760 MiB


def test_leaving_python_while_threads_are_inside_a_program() -> None:
    script = """
import threading, time
import numpy as np
from runtime_programs import add_executable
executable = add_executable(2)
a = np.ones(500_000, "f4")
def forever():
    while True:
        executable.run([a, a])
for _ in range(3):
    threading.Thread(target=forever, daemon=True).start()
time.sleep(0.2)
print("leaving")
"""
    for _ in range(3):
        assert succeed(script) == "leaving\n"


def test_leaving_python_right_after_parallel_work() -> None:
    script = """
import numpy as np
from runtime_programs import add_executable, generator
executable = add_executable(2)
generator().close()
a = np.ones(100_000, "f4")
executable.run([a, a])  # the pool's thread spins for 50 us more, then sleeps in its code
"""
    for _ in range(4):
        assert succeed(script) == ""
