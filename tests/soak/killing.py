"""What befalls the processes while the clients call, drawn from the seed. What dies is started again."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.faults.world import Valkey, running_meter

METERS = 2


class Meters:
    """Two of them; one that was killed is followed by another."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._running: list[subprocess.Popen[bytes]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for _ in range(METERS):
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def kill_one(self, dice: random.Random) -> None:
        victim = self._running.pop(dice.randrange(len(self._running)))
        victim.kill()
        victim.wait()
        self._start()

    def _start(self) -> None:
        self._running.append(self._stack.enter_context(running_meter(self._data_dir)))


class Killer:
    """Gateways and meters, one after the other, with -9."""

    def __init__(self, seed: int, web_pid: int, meters: Meters) -> None:
        self.kills = 0
        self._dice = random.Random(f"kill {seed}")
        self._web_pid = web_pid
        self._meters = meters

    def run(self, deadline: float) -> None:
        _until(deadline, self._dice, self._kill)

    def _kill(self) -> None:
        if self._dice.random() < 0.3:
            self._meters.kill_one(self._dice)
        elif workers := children(self._web_pid):
            os.kill(self._dice.choice(workers), signal.SIGKILL)
        self.kills += 1


class RedisBreaker:
    """Stops Redis for a while or (``restarts``) cuts its power, which costs it up to a second, and starts it again."""

    def __init__(self, seed: int, server: Valkey, *, restarts: bool) -> None:
        self.kills = 0
        self._dice = random.Random(f"redis {seed}")
        self._server = server
        self._restarts = restarts

    def run(self, deadline: float) -> None:
        _until(deadline, self._dice, self._restart if self._restarts else self._stop)

    def _stop(self) -> None:
        self._server.pause()
        time.sleep(self._dice.uniform(0.1, 4))
        self._server.go_on()
        self.kills += 1

    def _restart(self) -> None:
        written = self._server.written_bytes
        time.sleep(self._dice.uniform(0, 1))
        self._server.cut_power(since_bytes=written)
        time.sleep(self._dice.uniform(0.1, 4))
        self._server.start()
        self.kills += 1


def _until(deadline: float, dice: random.Random, act: Callable[[], None]) -> None:
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, dice.uniform(0.3, 2.5)))
        if time.monotonic() < deadline:
            act()


def children(pid: int) -> list[int]:
    """In the order they were started, so that the same draw means the same one."""
    try:
        return sorted(int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    except OSError:
        return []
