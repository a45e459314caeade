"""Looking something up within a time limit, in threads that may hang."""

import subprocess
import sys
import threading
import time

import pytest

from helixflow.lib import lookups
from tests import tree


def test_what_a_look_up_returns_or_raises_comes_back() -> None:
    def fail() -> None:
        raise OSError("unknown name")

    assert lookups.in_time(lambda: "found", 20) == "found"
    with pytest.raises(OSError, match="unknown name"):
        lookups.in_time(fail, 20)


def test_one_that_hangs_is_given_up_and_holds_up_no_other() -> None:
    answered = threading.Event()
    try:
        for _ in range(10):
            with pytest.raises(TimeoutError):
                lookups.in_time(lambda: answered.wait(60), 0.05)
        assert lookups.in_time(lambda: "found", 20) == "found"
    finally:
        answered.set()


def test_threads_are_used_again() -> None:
    lookups.in_time(lambda: None, 20)
    before = threading.active_count()
    for _ in range(50):
        lookups.in_time(lambda: None, 20)
        time.sleep(0.001)  # a thread counts as idle a moment after it has answered
    assert threading.active_count() - before < 10


def test_when_all_threads_hang_a_look_up_waits_no_longer_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "_threads", lookups._Threads())
    monkeypatch.setattr(lookups, "MOST_THREADS", 2)
    answered, ran = threading.Event(), threading.Event()
    try:
        for look_up in (lambda: answered.wait(60), lambda: answered.wait(60), ran.set):
            with pytest.raises(TimeoutError):
                lookups.in_time(look_up, 0.05)
    finally:
        answered.set()
    assert lookups.in_time(lambda: "found", 20) == "found"
    assert not ran.is_set()  # nobody was waiting for it any more


def test_a_hanging_one_does_not_hold_up_the_end_of_the_process_and_a_fork_has_threads_of_its_own() -> None:
    program = """
import os, threading
from helixflow.lib import lookups
assert lookups.in_time(lambda: 1, 20) == 1
child = os.fork()
if child == 0:
    os._exit(7 if lookups.in_time(lambda: 2, 20) == 2 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
try:
    lookups.in_time(lambda: threading.Event().wait(3600), 0.05)
except TimeoutError:
    print("given up")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tree.ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("given up\n", 0), done.stderr
