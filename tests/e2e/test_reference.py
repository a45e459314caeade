"""Every example request of the public API reference, as printed there, answers in the shape printed there."""

import json
import uuid

import pytest
import requests

CHAT = {
    "model": "gpt-3.5-turbo",
    "messages": [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Hello, world!"},
    ],
    "temperature": 0.7,
    "max_tokens": 150,
    "top_p": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "stop": ["\n", "User:"],
    "stream": False,
    "user": "user-123",
}


@pytest.fixture
def call(stack):
    def call(method, path, body=None, *, authorization=f"Bearer {stack.api_key}"):
        headers = {"Authorization": authorization} if authorization else {}
        response = requests.request(method, f"{stack.base_url}{path}", json=body, headers=headers, timeout=60)
        assert response.headers["x-request-id"].startswith("req_")
        return response

    return call


def shape(value):
    """The value with every leaf replaced by the name of its type."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value).__name__


def test_chat_completions(call):
    response = call("POST", "/chat/completions", CHAT)
    assert response.status_code == 200
    completion = response.json()
    completion["usage"].pop("prompt_tokens_details", None)  # OpenAI's too; told once a prompt was met before
    assert shape(completion) == {
        "id": "str",
        "object": "str",
        "created": "int",
        "model": "str",
        "choices": [{"index": "int", "message": {"role": "str", "content": "str"}, "finish_reason": "str"}],
        "usage": {"prompt_tokens": "int", "completion_tokens": "int", "total_tokens": "int"},
    } | dict.fromkeys(completion.keys() & {"system_fingerprint"}, "str")
    assert completion["model"] == "gpt-3.5-turbo"
    for name in ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"):
        assert response.headers[name].isdigit()


def test_chat_completions_streamed(call):
    response = call("POST", "/chat/completions", CHAT | {"stream": True, "stop": None, "max_tokens": 8})
    assert response.headers["content-type"].startswith("text/event-stream")
    *frames, done, nothing = response.text.split("\n\n")
    assert (done, nothing) == ("data: [DONE]", "")
    for frame in frames:
        chunk = json.loads(frame.removeprefix("data: "))
        assert list(chunk)[:5] == ["id", "object", "created", "model", "choices"]
        assert chunk["object"] == "chat.completion.chunk"
        assert "finish_reason" in chunk["choices"][0]


def test_models(call):
    listed = call("GET", "/models").json()
    assert listed["object"] == "list"
    examples = {model["id"]: model for model in listed["data"]}
    assert examples["gpt-3.5-turbo"] == {
        "id": "gpt-3.5-turbo",
        "object": "model",
        "created": 1677610602,
        "owned_by": "openai",
    }
    assert examples["gpt-4"] == {"id": "gpt-4", "object": "model", "created": 1687882411, "owned_by": "openai"}
    assert call("GET", "/models/gpt-3.5-turbo").json() == examples["gpt-3.5-turbo"]


@pytest.mark.parametrize("path", ["/health", "/../health"])
def test_health(stack, path):
    response = requests.get(f"{stack.base_url}{path}", timeout=10)
    assert response.status_code == 200
    body = response.json()
    assert shape(body) == {
        "status": "str",
        "timestamp": "int",
        "version": "str",
        "services": {"database": "str", "redis": "str"},
    }
    assert body["status"] == body["services"]["database"] == body["services"]["redis"] == "healthy"


def test_register_and_login(call):
    who = f"user-{uuid.uuid4().hex[:8]}@example.com"
    registered = call(
        "POST", "/auth/register", {"username": who, "email": who, "password": "password-123-xyz"}, authorization=None
    )
    assert registered.status_code == 201
    assert registered.json() == {
        "message": "User registered successfully",
        "user_id": registered.json()["user_id"],
        "username": who,
    }
    login = call("POST", "/auth/login", {"username": who, "password": "password-123-xyz"}, authorization=None)
    body = login.json()
    assert (body["token_type"], body["expires_in"]) == ("bearer", 3600)
    assert body["user"] == {"id": registered.json()["user_id"], "username": who, "email": who}
    made = call("POST", "/api-keys", {"name": "mine"}, authorization=f"Bearer {body['access_token']}")
    assert made.status_code == 201
    assert set(made.json()) == {"data", "meta"}
    key = made.json()["data"]["key"]
    assert call("GET", "/models", authorization=f"Bearer {key}").status_code == 200


def test_an_error_has_the_printed_shape(call):
    response = call("POST", "/chat/completions", {"messages": []})
    assert response.status_code == 400
    found = response.json()["error"]
    assert {"code", "message", "details", "timestamp", "request_id"} <= set(found)
    assert found["code"] == "invalid_request"
    assert found["request_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/", "", "/nope", "/chat", "/chat/completions/x", "/models/a/b/c"])
def test_unknown_paths_answer_in_json(call, path):
    response = call("GET", path)
    assert response.status_code == 404
    assert response.json()["error"]["code"] in {"invalid_request", "model_not_found"}
