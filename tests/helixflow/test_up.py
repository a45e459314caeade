"""`manage.py up`, the real thing: what it starts, keeps alive, and leaves behind (nothing)."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from helixflow.stack import embedded
from tests.stack import Up, is_listening, is_running, run_to_its_end, wait_for

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc"),
    pytest.mark.timeout(300),  # some begin with the start of two
]

CHILDREN = [
    *("postgres ", "valkey-server", "embedded_model"),
    *("manage.py web", "manage.py meter", "--queues=celery", "--queues=webhooks", "helixflow beat"),
]
RECORDED = """
from billing.models import UsageRecord
from helixflow.lib import ids
records = UsageRecord.objects.filter(id=ids.parse_public_id(ids.REQUEST, "{request_id}"))
print([(record.status, record.completion_tokens > 0) for record in records])
"""
QUEUES = """
from helixflow.celery import app
found = app.control.inspect(timeout=2).active_queues() or {}
print(sorted((name.partition("@")[0], queue["name"]) for name, queues in found.items() for queue in queues))
"""
ORGANIZATIONS = "from accounts.models import Organization as O; "


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Shared: a test leaves it as it was."""
    started = Up(tmp_path_factory.mktemp("up") / "data", "--demo")
    yield started.wait_until_up()
    started.stop()


class Copy:
    """Another one, with a data directory of its own and without the model."""

    def __init__(self, data_dir: Path) -> None:
        self.up = Up(data_dir, HELIXFLOW_EMBEDDED_MODEL="false").wait_until_up()

    def start_again(self) -> None:
        self.up = Up(self.up.data_dir, port=self.up.port, HELIXFLOW_EMBEDDED_MODEL="false")
        self.up.wait_until_up()


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """Shared as well: a test leaves it running."""
    started = Copy(tmp_path_factory.mktemp("copy") / "data")
    yield started
    started.up.stop()


def test_it_serves_the_site_and_tells_the_address(up):
    assert up.answers("/livez")
    assert f"HelixFlow is up: http://127.0.0.1:{up.port}" in up.output
    assert f"http://127.0.0.1:{up.port}/signup" in up.output
    assert f"HELIXFLOW_DATA_DIR={up.data_dir} " in up.output  # the hint is for a terminal without this environment


def test_the_demo_key_gets_an_answer_from_the_embedded_model_and_it_is_recorded(up):
    import openai

    demo = json.loads((up.data_dir / "secrets" / "demo.json").read_text())
    assert demo["api_key"] in up.output
    client = openai.OpenAI(api_key=demo["api_key"], base_url=f"http://127.0.0.1:{up.port}/v1")
    answer = client.chat.completions.with_raw_response.create(
        model="gpt-4", messages=[{"role": "user", "content": "Say hello."}], max_tokens=5
    )
    assert answer.headers["X-HelixFlow-Upstream"] == "embedded/smollm2-135m-instruct"
    assert answer.parse().choices[0].message.content
    recorded = RECORDED.format(request_id=answer.headers["X-Request-ID"])
    wait_for(lambda: up.manage("shell", "-v0", "-c", recorded) == "[(200, True)]", what="not in the ledger")


def test_a_mail_is_readable_in_the_log(up):
    account = {"username": "reader", "email": "reader@example.com", "password": "a long password"}
    url = f"http://127.0.0.1:{up.port}/v1/auth/register"
    wait_for(lambda: requests.post(url, json=account, timeout=10).status_code == 201)  # 503 while Valkey comes back
    wait_for(lambda: "mail to reader@example.com: Confirm your e-mail address" in up.output, what="no mail")
    wait_for(lambda: f"http://127.0.0.1:{up.port}/verify-email/" in up.output, what="no link")
    assert "<html" not in up.output  # the other half of the mail


@pytest.mark.parametrize("name", CHILDREN)
def test_a_killed_child_comes_back(up, name):
    first = up.child(name)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: up.child(name) not in (None, first), seconds=20, what=f"{name} did not come back")
    known = json.loads((up.data_dir / "services.json").read_text())
    model_port = int(known["EMBEDDED_MODEL_URL"].split(":")[2].split("/")[0])
    wait_for(
        lambda: up.answers("/health") and embedded.http_answers("127.0.0.1", model_port, "/health"),
        what="it came back, but not all of it answers where it did",
    )


def test_hung_receivers_of_webhooks_keep_no_other_task_waiting(up):
    queues = "[('batcher', 'batches'), ('deliverer', 'webhooks'), ('worker', 'celery')]"
    wait_for(lambda: up.manage("shell", "-v0", "-c", QUEUES) == queues, what="a queue without its worker")


def test_secrets_are_not_in_the_arguments_of_processes(up):
    secrets = [path.read_text().strip() for path in (up.data_dir / "secrets").iterdir() if path.suffix == ""]
    commands = [Path(f"/proc/{pid}/cmdline").read_text() for pid in up.descendants()]
    assert len(secrets) >= 3
    assert not [command for command in commands for secret in secrets if secret in command]


def test_a_second_copy_runs_beside_the_first(up, copy):
    assert up.answers()
    assert copy.up.answers()
    assert copy.up.child("embedded_model") is None


def test_a_second_start_on_the_same_data_is_refused(up):
    code, lines = run_to_its_end(up.data_dir, port=up.port)
    assert (code, len(lines)) == (1, 1)
    assert f"already runs on {up.data_dir} (process {up.process.pid}" in lines[0]


def test_a_stop_leaves_no_process_and_a_restart_keeps_the_data(up, copy):
    first = copy.up
    first.manage("shell", "-c", ORGANIZATIONS + "O.objects.create(name='Kept')")
    processes = first.descendants()
    ports = [first.port, *json.loads((first.data_dir / "ports.json").read_text()).values()]
    assert first.stop() == 0
    assert not [pid for pid in processes if is_running(pid)]
    assert not [port for port in ports if is_listening(port)]
    assert up.answers()  # it is not that one's end

    copy.start_again()
    assert copy.up.manage("shell", "-v0", "-c", ORGANIZATIONS + "print(O.objects.get().name)") == "Kept"


def test_killing_up_itself_leaves_no_process_and_the_next_start_works(copy):
    processes = copy.up.descendants()
    assert len(processes) >= 5
    copy.up.process.kill()
    copy.up.process.wait()
    copy.start_again()  # at once, while they still end
    wait_for(lambda: not [pid for pid in processes if is_running(pid)], seconds=15, what="some outlived it")


def test_a_taken_port_is_one_clear_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, lines = run_to_its_end(tmp_path / "data", port=taken.getsockname()[1])
    assert (code, len(lines)) == (1, 1)
    assert "is taken by another program. Set HELIXFLOW_PORT" in lines[0]


def test_an_unwritable_data_directory_is_one_clear_line(tmp_path):
    file = tmp_path / "file"
    file.touch()
    code, lines = run_to_its_end(file / "data")
    assert (code, len(lines)) == (1, 1)
    assert "Set HELIXFLOW_DATA_DIR" in lines[0]


def test_a_data_directory_that_cannot_be_locked_is_one_clear_line(tmp_path):
    """Every secret is given, so `up` itself is the first to write there."""
    (tmp_path / "file").touch()
    secrets = ("SECRET_KEY", "JWT_KEY", "ENCRYPTION_KEYS", "KEY_PEPPERS")
    given = {f"HELIXFLOW_{name}": "x" * 43 + "=" for name in secrets}
    code, lines = run_to_its_end(tmp_path / "file" / "data", port=None, **given)
    assert (code, len(lines)) == (1, 1)
    assert "Not a directory" in lines[0]


@pytest.mark.parametrize(
    ("name", "url"),
    [("DATABASE_URL", "postgresql://app:hunter2@127.0.0.1:1/app"), ("REDIS_URL", "redis://:hunter2@127.0.0.1:1/0")],
)
def test_a_dead_address_is_one_clear_line_without_its_password(tmp_path, name, url):
    code, lines = run_to_its_end(tmp_path / "data", **{name: url})
    assert (code, len(lines)) == (1, 1)
    assert name in lines[0]
    assert "refused" in lines[0]
    assert "hunter2" not in lines[0]


def test_a_missing_wheel_is_one_clear_line(tmp_path):
    # An import system that finds no such package, as in an environment that was set up without it.
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['xllamacpp'] = None\n")
    code, lines = run_to_its_end(tmp_path / "data", PYTHONPATH=str(tmp_path))
    assert (code, len(lines)) == (1, 1)
    assert "The package xllamacpp is not installed" in lines[0]
    assert "HELIXFLOW_EMBEDDED_MODEL=false" in lines[0]
