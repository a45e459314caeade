"""What the tests of the three SDKs share: the scripted server of their contract, and a HelixFlow to call."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest
import requests

from tests.stack import Stack

CONTRACT = Path(__file__).parents[2] / "sdks" / "contract"


@pytest.fixture(scope="session")
def contract_server() -> Iterator[str]:
    """The address of a scripted server (sdks/contract/README.md), for HELIXFLOW_CONTRACT_URL."""
    process = subprocess.Popen(
        [sys.executable, str(CONTRACT / "server.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
    process.stdin.close()
    assert process.wait(10) == 0
    process.stdout.close()


class Platform(NamedTuple):
    """``environment`` is what an SDK reads both from."""

    base_url: str
    api_key: str

    @property
    def environment(self) -> dict[str, str]:
        return {"HELIXFLOW_BASE_URL": self.base_url, "HELIXFLOW_API_KEY": self.api_key}


@pytest.fixture(scope="module")
def sdk_platform(stack: Stack) -> Platform:
    """All of HelixFlow with its workers and the embedded model, and a key of somebody who just signed up.

    It is the one that tests/e2e uses, which each worker of a run has anyway. The account is the module's own, and so
    are its 100 requests a minute.
    """
    stack.forget_tries()
    credentials = {"username": f"sdks-{uuid4().hex}@example.com", "password": "ladder-quartz-otter"}
    account = credentials | {"email": credentials["username"]}
    requests.post(f"{stack.base_url}/auth/register", json=account, timeout=20).raise_for_status()
    login = requests.post(f"{stack.base_url}/auth/login", json=credentials, timeout=20)
    authorization = f"Bearer {login.json()['access_token']}"
    key = requests.post(
        f"{stack.base_url}/api-keys", json={"name": "SDKs"}, headers={"Authorization": authorization}, timeout=20
    )
    return Platform(stack.base_url, key.json()["data"]["key"])
