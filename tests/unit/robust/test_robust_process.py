"""What a process sees of real compiled models: system calls, sockets, forks, idle time, memory.

Each case runs in a fresh process, because it ends or confines it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from robust_models import in_process, succeed

SIGKILL, SIGSYS = -9, -31

NO_SOCKETS = "from test_process import NO_SOCKETS\nexec(NO_SOCKETS)\n"
"""Kills the process at the first system call that makes or connects a socket."""

MODEL = """
import os, signal, sys
import numpy as np
from robust_models import attention, convnet, movement, normal
from torsh_fx.compiler import compile
MODELS = {
    "convnet": (convnet(), normal(1, 3, 16, 16)),
    "attention": (attention(), normal(2, 6, 8)),
    "movement": (movement(), normal(4, 5)),
}
"""

# -- the steady path

SEALED = """
from sealed_calls import call_sealed
model, x = MODELS[sys.argv[1]]
f = compile(model, threads=1)
right = f.run([x])
outputs = [np.zeros_like(y) for y in right]
call = f.executable.bind([x], outputs)
call()  # the first call binds the weights
wanted = right[0] + 1 if "wrong" in sys.argv else right[0]
call_sealed(call, outputs[0], wanted, leak="leak" in sys.argv)
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86-64")
@pytest.mark.parametrize("name", ["convnet", "attention", "movement"])
def test_ten_thousand_calls_make_no_system_call(name: str):
    done = in_process(MODEL + SEALED, name)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86-64")
def test_the_seal_kills_and_sees_wrong_results():
    # Controls of the test above: it fails when results differ, and when the seal is broken.
    assert in_process(MODEL + SEALED, "convnet", "wrong").returncode == 1
    assert in_process(MODEL + SEALED, "convnet", "leak").returncode == SIGKILL


def test_run_into_allocates_nothing_in_the_steady_state():
    script = """
import tracemalloc
model, x = MODELS["convnet"]
f = compile(model, threads=1)
y = [np.zeros_like(f.run([x])[0])]
x = [x]
for _ in range(20):
    f.run_into(x, y)
import gc
gc.collect(); gc.disable()
tracemalloc.start()
f.run_into(x, y)
before = tracemalloc.get_traced_memory()[0]
for _ in range(1000):
    f.run_into(x, y)
after = tracemalloc.get_traced_memory()[0]
print(after - before)
"""
    assert abs(int(succeed(MODEL + script))) < 1000


# -- sockets, forks, idle time


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86-64")
def test_compile_save_load_and_run_open_no_socket(tmp_path: Path):
    script = """
from pathlib import Path
from lowering.cpu.host import host_target
from lowering.runtime.executable import Executable
from lowering.runtime.load import load_program
from torsh_fx.ahead import write_program
from torsh_fx.loading import load
folder = Path(sys.argv[1])
for name, (model, x) in MODELS.items():
    f = compile(model)
    y = f.run([x])
    f.save(folder / f"{name}.mlir")
    again = load(folder / f"{name}.mlir").run([x])
    write_program(f, folder / name, host_target())
    loaded = Executable(load_program(folder / name)).run([x])
    for a, b, c in zip(y, again, loaded, strict=True):
        assert a.tobytes() == b.tobytes() == c.tobytes()
print("done")
"""
    cache = str(tmp_path / "cache")
    assert succeed(NO_SOCKETS + MODEL + script, tmp_path, TORSH_CACHE_DIR=cache) == "done\n"
    assert in_process(NO_SOCKETS + "import socket; socket.socket()").returncode == SIGSYS


FORKS = """
from fork_rounds import fork_rounds
threads, rounds, busy = int(sys.argv[1]), int(sys.argv[2]), len(sys.argv) > 3
loaded = [(compile(model, threads=threads), x) for model, x in MODELS.values()]
rights = [f.run([x]) for f, x in loaded]
def good():
    found = [f.run([x]) for f, x in loaded]
    return all((a == b).all() for r, s in zip(rights, found) for a, b in zip(r, s))
def good_in_child(turn):
    if turn:
        return True
    model, x = MODELS["movement"]  # a child can compile too, with worker processes of its own
    return (compile(model, cache=False).run([x])[0] == rights[2][0]).all()
fork_rounds(good, good_in_child, rounds, busy=busy)
print("done")
"""


@pytest.mark.parametrize(("threads", "rounds"), [(1, 3), (2, 100)])
def test_forked_workers_run_what_was_loaded_before(threads: int, rounds: int):
    assert succeed(MODEL + FORKS, threads, rounds) == "done\n"


def test_forks_while_other_threads_run_models():
    assert succeed(MODEL + FORKS, 2, 4, "busy") == "done\n"


def test_idle_models_use_no_processor():
    script = """
import resource, time
from torsh_fx.compiler import generator
loaded = [(compile(model, threads=2), x) for model, x in MODELS.values()]
for f, x in loaded:
    for _ in range(50):
        f.run([x])
generator(False, True).close()
def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
time.sleep(0.01)
before = used()
time.sleep(3)
print(used() - before)
"""
    assert float(succeed(MODEL + script)) < 0.01  # one tick of the scheduler's accounting


# -- threads

COUNT = """
import os, sys
from pathlib import Path
import lowering.runtime.threads as threads
from robust_models import mlp
from torsh_fx.compiler import compile
model = mlp()
def count(*asked, **environ):
    os.environ.pop("OMP_NUM_THREADS", None)
    os.environ.pop("TORSH_NUM_THREADS", None)
    os.environ.update(environ)
    return [compile(model, threads=one).executable.threads for one in asked]
"""


def test_threads_follow_the_affinity_mask_and_the_environment():
    script = """
cores = sorted(os.sched_getaffinity(0))
free = count(None, 1, 1000)
assert free[0] == free[2] and free[1] == 1 and 1 <= free[0] <= len(cores), free
assert count(None, 4, OMP_NUM_THREADS="1") == [1, 1]
assert count(None, TORSH_NUM_THREADS="1") == [1]
os.sched_setaffinity(0, cores[:1])
assert count(None, 4) == [1, 1]
print("done")
"""
    assert succeed(COUNT + script) == "done\n"


def test_threads_follow_the_quota_of_the_container(tmp_path: Path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/box\n")
    (tmp_path / "sys/fs/cgroup/box").mkdir(parents=True)
    script = """
root = Path(sys.argv[1])
real = threads.cgroup_quota
threads.cgroup_quota = lambda _=None: real(root)
os.sched_getaffinity = lambda _: set(range(8))
for quota, wanted in (("100000", [1, 1]), ("350000", [3, 2]), ("max", [8, 2])):
    (root / "sys/fs/cgroup/box/cpu.max").write_text(f"{quota} 100000")
    assert count(None, 2) == wanted, quota
assert count(None, OMP_NUM_THREADS="2,1") == [2]
print("done")
"""
    assert succeed(COUNT + script, tmp_path) == "done\n"


def test_a_bad_number_of_threads_is_an_error():
    script = """
from torsh_dialect.errors import InvalidArgumentError
for value in ("0", "-3", "many"):
    try:
        count(None, TORSH_NUM_THREADS=value)
    except InvalidArgumentError as error:
        print(error)
"""
    said = "TORSH_NUM_THREADS is {!r}; it must be a positive integer"
    wanted = [said.format(value) for value in ("0", "-3", "many")]
    assert succeed(COUNT + script).splitlines() == wanted
