"""Forks of a process that has loaded models, for scripts that run in a process of their own."""

import os
import signal
import threading
from collections.abc import Callable


def fork_rounds(
    good: Callable[[], bool],
    good_in_child: Callable[[int], bool],
    rounds: int,
    *,
    busy: bool,
) -> None:
    """Fork 8 children in each round; all must find what they run right, as must the parent.

    Args:
        good: Runs the models, and says whether the results are right.
        good_in_child: What else must hold in a child of the given round, after two runs.
        rounds: How many.
        busy: Whether two other threads of the parent run models meanwhile.
    """
    assert good()
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            assert good()

    others = [threading.Thread(target=keep_busy) for _ in range(2)] if busy else []
    for one in others:
        one.start()
    for turn in range(rounds):
        children: list[int] = []
        for _ in range(8):
            child = os.fork()
            if child == 0:
                signal.alarm(20)  # a hang becomes a death by SIGALRM
                fine = good() and good() and good_in_child(turn)
                os._exit(0 if fine else 1)
            children.append(child)
        for child in children:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert status == 0, f"round {turn}: child ended with {status}"
        assert good()
    stop.set()
    for one in others:
        one.join()
