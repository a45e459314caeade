"""What a killed PostgreSQL leaves behind, and the log of many processes."""

import io
import os
import subprocess
import sys

import pytest

from helixflow.stack import embedded
from helixflow.stack.console import Console

OTHERS = "/data\n1795431780\n20001\n\n127.0.0.1\n   123456    98304\nready\n"


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "postgresql"
    made.mkdir()
    return made


def test_a_pid_file_whose_number_is_another_process_by_now_no_longer_stops_the_start(folder):
    pid_file = folder / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{OTHERS}")
    embedded.outlive_leftovers(folder)
    first, _, others = pid_file.read_text().partition("\n")
    assert others == OTHERS, "PostgreSQL finds the old shared memory by these lines"
    with pytest.raises(ProcessLookupError):
        os.kill(int(first), 0)


def test_a_pid_file_of_a_dead_process_is_left_to_postgresql(folder):
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    (folder / "postmaster.pid").write_text(f"{ended.pid}\n{OTHERS}")
    embedded.outlive_leftovers(folder)
    assert (folder / "postmaster.pid").read_text() == f"{ended.pid}\n{OTHERS}"


def test_a_pid_file_that_was_cut_off_is_removed(folder):
    (folder / "postmaster.pid").touch()
    embedded.outlive_leftovers(folder)
    assert not (folder / "postmaster.pid").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="tells servers by /proc")
def test_a_server_that_still_runs_on_the_folder_is_ended(tmp_path):
    service = embedded.postgresql(tmp_path, port=embedded.free_port())
    earlier = subprocess.Popen(
        service.command, cwd="/", start_new_session=True, stderr=subprocess.DEVNULL, **service.identity
    )
    try:
        embedded.wait_until_ready(service, earlier)
        service.prepare()
        assert earlier.wait(10) == 0
    finally:
        earlier.kill()


def test_an_initialisation_that_was_cut_off_starts_anew(tmp_path):
    half = tmp_path / "postgresql.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18")
    embedded.postgresql(tmp_path, port=embedded.free_port())
    assert (tmp_path / "postgresql" / "global").is_dir()
    assert not half.exists()


def test_lines_of_children_carry_their_name_and_no_control_characters():
    log = io.StringIO()
    Console(log).line("web", "user \x1b[31mred\x1b[0m\x07 said\r\x9b2J hello\tworld")
    assert log.getvalue().endswith(" web        | user red said2J hello\tworld\n")


def test_a_terminal_gets_colours_unless_it_asks_for_none(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    log = Terminal()
    Console(log).line("web", "hello")
    assert "\x1b[" in log.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    log = Terminal()
    Console(log).line("web", "hello")
    assert "\x1b[" not in log.getvalue()
