"""The processes: workers that are replaced, a parent that leaves nobody behind, and an orderly end."""

import os
import shlex
import signal
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.helixflow.serving import Served, get, post, server, server_command, started, wait_for


def workers(served: Served) -> set[int]:
    return {
        int(pid) for pid in Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children").read_text().split()
    }


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def settled(served: Served) -> int:
    """How many processes have run their application's own shutdown."""
    return "".join(served.log).count("settled")


def test_workers_share_one_port():
    with server(workers=2) as web:
        assert len(workers(web)) == 2
        assert {web.get("/").json()["pid"] for _ in range(200)} <= workers(web)


def test_one_worker_runs_in_the_process_itself():
    with server(workers=1) as web:
        assert web.get("/").json()["pid"] == web.process.pid


def test_a_killed_worker_is_replaced_within_a_second():
    with server(workers=2) as web:
        before = workers(web)
        time.sleep(1)  # one that dies in its first second is replaced after a pause
        victim = before.pop()
        os.kill(victim, signal.SIGKILL)
        assert wait_for(lambda: len(workers(web) - {victim}) == 2) < 1
        replacement = (workers(web) - before).pop()
        assert wait_for(lambda: web.get("/").json()["pid"] == replacement) < 2
        assert any(f"web worker {victim} ended with code -9" in line for line in web.log)


def test_all_workers_killed_again_and_again_come_back():
    with server(workers=2) as web:
        for _ in range(2):
            for pid in workers(web):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        wait_for(lambda: len(workers(web)) == 2, seconds=5)
        assert web.get("/").status == 200
        assert web.stop() == 0


def test_a_killed_parent_takes_its_workers_along():
    with server(workers=2) as web:
        pids = workers(web)
        web.process.kill()
        web.process.wait(5)
        assert wait_for(lambda: not any(map(is_alive, pids)), seconds=5) < 2
        assert not is_listening(web.port)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_ends_at_once_and_cleanly(count, number):
    with server(workers=count) as web, web.connect() as idle:
        idle.send(get("/"))
        idle.answer()
        start = time.monotonic()
        web.process.send_signal(number)
        assert web.process.wait(5) == 0
        assert time.monotonic() - start < 2
        wait_for(lambda: settled(web) == count)


@pytest.mark.parametrize("count", [1, 2])
def test_a_request_in_flight_is_finished_and_new_connections_are_refused(count):
    with server(workers=count, grace_s=5) as web, web.connect() as raw, web.connect() as sending:
        raw.send(get("/slow"))
        sending.send(post("/", b"x" * 10)[:-5])
        time.sleep(0.1)
        web.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not is_listening(web.port), seconds=0.4)
        answer = raw.answer()
        assert answer.json() == {"slow": True}
        assert answer.headers["connection"] == "close"
        sending.send(b"x" * 5)
        assert sending.answer().json()["length"] == 10
        assert web.process.wait(5) == 0


def test_headers_under_way_when_the_end_begins_are_still_answered():
    with server(grace_s=5) as web, web.connect() as raw:
        raw.send(get("/")[:10])
        time.sleep(0.1)
        web.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not is_listening(web.port))
        raw.send(get("/")[10:])
        answer = raw.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert web.process.wait(5) == 0


@pytest.mark.parametrize("count", [1, 2])
def test_a_stream_that_outlasts_the_grace_may_say_goodbye(count):
    with server(workers=count, grace_s=1) as web, web.connect() as raw:
        raw.send(get("/ticks"))
        raw.more()
        start = time.monotonic()
        web.process.send_signal(signal.SIGTERM)
        said = raw.until_closed()
        assert 0.9 < time.monotonic() - start < 3
        assert said.endswith(b"goodbye\r\n0\r\n\r\n")
        assert web.process.wait(5) == 0
        wait_for(lambda: settled(web) == count)


def test_a_request_that_outlasts_the_grace_is_answered_503():
    with server(grace_s=0) as web, web.connect() as raw:
        raw.send(get("/slow"))
        time.sleep(0.1)
        web.process.send_signal(signal.SIGTERM)
        answer = raw.answer()
        assert (answer.status, answer.json()["error"]["code"]) == (503, "service_unavailable")
        assert answer.headers["retry-after"] == "1"


def test_a_client_that_reads_nothing_does_not_hold_up_the_end():
    with server(grace_s=1) as web, web.connect(receive_buffer=4096) as raw:
        raw.send(get("/large"))
        time.sleep(0.2)
        assert web.stop(seconds=10) == 0
        wait_for(lambda: settled(web) == 1)


def test_connections_that_would_starve_upstreams_of_descriptors_are_answered_503():
    """With 200 descriptors a worker holds 36 connections."""
    command = shlex.join(server_command())
    with started(["sh", "-c", f"ulimit -n 200; exec {command}"]) as web, ExitStack() as crowd:
        held = [crowd.enter_context(web.connect()) for _ in range(36)]
        with web.connect() as late:
            answer = late.answer()
            assert (answer.status, answer.json()["error"]["code"]) == (503, "service_unavailable")
        held[0].send(get("/"))
        assert held[0].answer().status == 200
        held.pop().socket.close()
        wait_for(lambda: web.get("/").status == 200)


def test_an_application_that_does_not_start_ends_the_server_with_its_reason():
    with (
        pytest.raises(AssertionError, match="the stores are closed"),
        server("tests.helixflow.misbehaving_app:stillborn"),
    ):
        pass


def test_a_taken_port_is_told_in_one_line():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        command = [sys.executable, "manage.py", "web", "--workers", "1", "--port", str(port)]
        with pytest.raises(AssertionError) as told, started(command):
            pass
    assert str(told.value).strip() == f"CommandError: Cannot listen on 127.0.0.1:{port}: Address already in use."
