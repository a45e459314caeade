"""The end of `manage.py web` with a completion under way: its stream ends with an error, never as if it were whole."""

import json
import signal
import sys

import pytest

from accounts import api_keys
from tests.factories import MODEL, deploy
from tests.helixflow.serving import Raw, post, started

BODY = json.dumps({"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "Hello"}]}).encode()


@pytest.fixture
def token(transactional_db, organization, owner):
    return api_keys.create(organization=organization, user=owner, name="test")[1]


def begin_stream(raw: Raw, token: str) -> None:
    raw.send(post("/v1/chat/completions", BODY, f"Authorization: Bearer {token}", "Content-Type: application/json"))
    answer = raw.answer(head_only=True)
    assert answer.status == 200
    while b"data: " not in raw.rest:
        assert raw.more()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stream_that_outlasts_the_grace_ends_with_an_error(stores, upstream, token, workers):
    deploy(upstream)
    upstream.script("stall-in-the-middle")
    command = [sys.executable, "manage.py", "web", "--workers", workers, "--port", "0"]
    with started(command, stores | {"HELIXFLOW_SHUTDOWN_GRACE_S": "1"}) as web, web.connect() as raw:
        begin_stream(raw, token)
        web.process.send_signal(signal.SIGTERM)
        said = raw.until_closed().decode()
        last = [line for line in said.splitlines() if line.startswith("data: ")][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "service_unavailable"
        assert "[DONE]" not in said
        assert said.endswith("0\r\n\r\n")
        assert web.process.wait(10) == 0
        assert upstream.disconnected.wait(2)


def test_a_stream_within_the_grace_is_finished(stores, upstream, token):
    deploy(upstream)
    upstream.script("drip")
    command = [sys.executable, "manage.py", "web", "--workers", "2", "--port", "0"]
    with started(command, stores | {"HELIXFLOW_SHUTDOWN_GRACE_S": "10"}) as web, web.connect() as raw:
        begin_stream(raw, token)
        web.process.send_signal(signal.SIGTERM)
        assert "data: [DONE]" in raw.until_closed().decode()
        assert web.process.wait(15) == 0
