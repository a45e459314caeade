"""The official OpenAI client for Node, unmodified, against the whole of HelixFlow with its real embedded model."""

import json
import os
import subprocess

import pytest

from tests.requirements import require_node_package, require_program


@pytest.fixture(scope="module")
def seen(stack):
    folder = require_node_package("openai")
    done = subprocess.run(
        [require_program("node"), "chat.mjs"],
        cwd=folder,
        env=os.environ | {"OPENAI_BASE_URL": stack.base_url, "OPENAI_API_KEY": stack.api_key},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_models(seen):
    assert {"gpt-3.5-turbo", "gpt-4"} <= set(seen["models"])
    assert seen["model"] == {"id": "gpt-4", "object": "model", "created": 1687882411, "owned_by": "openai"}


def test_chat(seen):
    completion = seen["completion"]
    assert completion["choices"][0]["message"]["content"]
    assert completion["usage"]["total_tokens"] > 0


def test_streaming(seen):
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in seen["chunks"])
    assert not any("usage" in chunk for chunk in seen["chunks"])
    assert seen["last"]["usage"]["total_tokens"] > 0


def test_errors_are_its_own_classes(seen):
    assert seen["badKey"]["name"] == "AuthenticationError"
    assert seen["badKey"]["code"] == "invalid_api_key"
    assert seen["badKey"]["id"].startswith("req_")
    assert (seen["unknownModel"]["name"], seen["unknownModel"]["code"]) == ("NotFoundError", "model_not_found")
    assert (seen["badParameter"]["name"], seen["badParameter"]["param"]) == ("BadRequestError", "temperature")
