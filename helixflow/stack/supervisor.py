"""Runs programs as children: starts them in order, starts again what dies, stops everything. Knows no HelixFlow.

One event loop, because everything waits at once. Children are started by the main thread only: Linux sends a
parent-death signal when the *thread* that started a child ends.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from signal import SIGKILL, SIGTERM, Signals
from typing import Any, Final

from helixflow.stack.console import Console

POLL_S: Final = 0.05
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 10.0
SETTLED_S: Final = 10.0  # a child that lived this long starts with the shortest pause again
PASSING_PAUSE_S: Final = 0.2
PASSING_TRIES: Final = 20


class SupervisorError(Exception):
    """One clear line for the person who started it."""


@dataclass(frozen=True)
class Program:
    """``needs`` names the programs that must answer before each start of this one.

    ``passing``: complaints in its output that time alone cures, so that the same start is tried again at once.
    """

    name: str
    command: list[str]
    needs: tuple[str, ...] = ()
    is_ready: Callable[[], bool] | None = None  # None: ready once it runs
    prepare: Callable[[], None] = lambda: None
    identity: dict[str, Any] = field(default_factory=dict)
    passing: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()  # lines that hold one of these are not shown
    stop_signal: Signals = SIGTERM
    start_seconds: float = 60
    stop_seconds: float = 10


class Child:
    """One program and, most of the time, its process: the leader of a session of its own, so that Ctrl-C is ours."""

    def __init__(self, program: Program, console: Console) -> None:
        self.program = program
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()
        self.stopping = False
        self.task: asyncio.Task[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._console = console
        self._output: _Output | None = None
        self._tail: deque[str] = deque(maxlen=20)
        self._remains: set[asyncio.Task[None]] = set()

    @property
    def last_words(self) -> str:
        return next((line for line in reversed(self._tail) if line.strip()), "it said nothing")

    async def keep_running(self, needs: list["Child"]) -> None:
        """Until stopped. Raises SupervisorError if it ends before it ever answered."""
        answered = False
        pause = FIRST_PAUSE_S
        tries = 0
        while True:
            for needed in needs:
                await needed.ready.wait()
            await asyncio.to_thread(self.program.prepare)
            self.spawn()
            started_at = time.monotonic()
            answered |= await self._becomes_ready(self.program.start_seconds if not answered else None)
            await self.ended.wait()
            self.ready.clear()
            if self.stopping:
                return
            if tries < PASSING_TRIES and self._complains_of_something_passing():
                tries += 1
                await asyncio.sleep(PASSING_PAUSE_S)
                continue
            if not answered:
                raise SupervisorError(f"{self.program.name} {self._fate()}: {self.last_words}")
            tries = 0
            pause = FIRST_PAUSE_S if time.monotonic() - started_at > SETTLED_S else min(pause * 2, LONGEST_PAUSE_S)
            self._console.note(f"{self.program.name} {self._fate()}; starting it again")
            await asyncio.sleep(pause)

    async def run_once(self) -> None:
        """Raises SupervisorError if it fails."""
        self.spawn()
        await self.ended.wait()
        if self._process is not None and self._process.returncode != 0 and not self.stopping:
            raise SupervisorError(f"{self.program.name} {self._fate()}: {self.last_words}")

    def spawn(self) -> None:
        self.ended.clear()
        self._tail.clear()
        reader, writer = os.pipe()
        try:
            self._process = subprocess.Popen(
                self.program.command,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                start_new_session=True,
                **self.program.identity,
            )
        except OSError as error:
            os.close(reader)
            raise SupervisorError(f"{self.program.name} cannot be started: {error}") from None
        finally:
            os.close(writer)
        self._output = _Output(reader, self._heard)

    def reap(self) -> None:
        """After SIGCHLD: notice if it has ended."""
        if self._process is None or self.ended.is_set() or self._process.poll() is None:
            return
        if self._output is not None:
            self._output.drain()
        remains = asyncio.create_task(self._end_remains(self._process.pid))
        self._remains.add(remains)
        remains.add_done_callback(self._remains.discard)
        self.ended.set()

    async def stop(self, impatient: asyncio.Event) -> None:
        """Its signal first; SIGKILL after its time or as soon as ``impatient`` is set."""
        self.stopping = True
        if self._process is not None and not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(self.program.stop_signal)
            if not await self._ends_within(self.program.stop_seconds, impatient):
                self._console.note(f"{self.program.name} does not end; killing it")
                _kill_group(self._process.pid, SIGKILL)
                await self.ended.wait()
        await asyncio.gather(*self._remains)
        if self.task is not None:
            self.task.cancel()

    async def _ends_within(self, seconds: float, impatient: asyncio.Event) -> bool:
        waits = [asyncio.create_task(self.ended.wait()), asyncio.create_task(impatient.wait())]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return self.ended.is_set()

    async def _becomes_ready(self, seconds: float | None) -> bool:
        """Whether it answers before it ends. Raises SupervisorError after ``seconds``."""
        deadline = time.monotonic() + seconds if seconds is not None else None
        while not self.ended.is_set():
            if self.program.is_ready is None or await asyncio.to_thread(self.program.is_ready):
                if not self.ended.is_set():
                    self.ready.set()
                    return True
            elif deadline is not None and time.monotonic() > deadline:
                raise SupervisorError(f"{self.program.name} does not answer after {seconds:.0f} s: {self.last_words}")
            await asyncio.sleep(POLL_S)
        return False

    async def _end_remains(self, group: int) -> None:
        """A killed child's own children get the time to drain that it would have had, none once we are stopping.

        The number of a group is not given away while it has members. A dead member that nobody reaps counts as one,
        so the wait after SIGKILL has an end.
        """
        deadline = time.monotonic() + self.program.stop_seconds
        while _kill_group(group, 0) and not self.stopping and time.monotonic() < deadline:  # nobody tells
            await asyncio.sleep(POLL_S)
        for _ in range(10):
            if not _kill_group(group, SIGKILL):
                return
            await asyncio.sleep(POLL_S)

    def _complains_of_something_passing(self) -> bool:
        return any(complaint in line for line in self._tail for complaint in self.program.passing)

    def _fate(self) -> str:
        code = self._process.returncode if self._process is not None else None
        return f"was ended by {Signals(-code).name}" if code is not None and code < 0 else f"ended with code {code}"

    def _heard(self, line: str) -> None:
        self._tail.append(line)
        if not any(part in line for part in self.program.hidden):
            self._console.line(self.program.name, line)


def _kill_group(group: int, number: int) -> bool:
    """Whether there was anyone to receive it."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


class _Output:
    """Hands over a pipe line by line, as lines become whole."""

    LONGEST: Final = 16 * 1024

    def __init__(self, descriptor: int, heard: Callable[[str], None]) -> None:
        self._descriptor = descriptor
        self._heard = heard
        self._rest = b""
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def drain(self) -> None:
        """What a process that has ended still left in the pipe."""
        while self._descriptor >= 0 and self._read():
            pass

    def _read(self) -> bool:
        try:
            data = os.read(self._descriptor, 64 * 1024)
        except BlockingIOError:
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > self.LONGEST or not data:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            if line:
                self._heard(line.decode(errors="replace"))
        if not data:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        return bool(data)


class Supervisor:
    def __init__(self, console: Console) -> None:
        self.console = console
        self._batches: list[list[Child]] = []
        self._stop = asyncio.Event()
        self._impatient = asyncio.Event()
        self._failure: asyncio.Future[Any] | None = None

    def run(self, main: Callable[["Supervisor"], Awaitable[None]]) -> None:
        """Run ``main``, then keep the children it started until SIGINT, SIGTERM or SIGHUP.

        Nothing runs any more when this returns or raises. Raises SupervisorError.
        """
        asyncio.run(self._run(main))

    def start(self, *programs: Program) -> None:
        """Start these side by side. The last batch started is the first stopped."""
        children = [Child(program, self.console) for program in programs]
        self._batches.append(children)
        for child in children:
            needs = [self._child(name) for name in child.program.needs]
            child.task = asyncio.create_task(child.keep_running(needs))
            child.task.add_done_callback(self._on_task_done)

    async def ready(self, *names: str) -> None:
        for name in names:
            await self._child(name).ready.wait()

    async def run_once(self, program: Program) -> None:
        """Run ``program`` to its end. Raises SupervisorError if it fails."""
        child = Child(program, self.console)
        self._batches.append([child])
        await child.run_once()

    async def _run(self, main: Callable[["Supervisor"], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        self._failure = loop.create_future()
        loop.add_signal_handler(signal.SIGCHLD, self._on_child_ended)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_stop_signal)
        starting: asyncio.Future[Any] = asyncio.ensure_future(main(self))
        stop: asyncio.Future[Any] = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([starting, stop, self._failure], return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await asyncio.wait([stop, self._failure], return_when=asyncio.FIRST_COMPLETED)
            if self._failure.done():
                self._failure.result()
        finally:
            starting.cancel()
            stop.cancel()
            await self._stop_all()

    async def _stop_all(self) -> None:
        for batch in reversed(self._batches):
            await asyncio.gather(*(child.stop(self._impatient) for child in batch))

    def _child(self, name: str) -> Child:
        return next(child for batch in self._batches for child in batch if child.program.name == name)

    def _on_child_ended(self) -> None:
        for batch in self._batches:
            for child in batch:
                child.reap()

    def _on_stop_signal(self) -> None:
        if self._stop.is_set():
            self._impatient.set()
        else:
            self.console.note("stopping … (calls under way end first; Ctrl-C again does not wait for them)")
        self._stop.set()

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)
