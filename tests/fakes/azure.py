"""A fake Azure OpenAI resource: the fake upstream behind Azure's paths, header and filters. It refuses whatever the
real one would: another path or API version, a missing or wrong ``api-key``, a deployment that isn't there."""

import json
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes import answers
from tests.fakes.behaviours import Behaviour, Call
from tests.fakes.upstream import Upstream

KEY = "azure-key-0123456789abcdef0123456789abcdef"
FILTERS = {"hate": {"filtered": False, "severity": "safe"}, "violence": {"filtered": False, "severity": "safe"}}
FILTERED = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."


class Azure(Upstream):
    """``api_version`` None: the v1 API. Script with Azure's own behaviours of this module, or the usual ones."""

    def __init__(self, *, deployments: tuple[str, ...] = ("our-gpt",), api_version: str | None = None) -> None:
        super().__init__()
        self.deployments = deployments
        self.api_version = api_version

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _behaviour(self, call: Call) -> Behaviour:
        request = call.request
        address = urlsplit(request.path)
        if "authorization" in request.headers or request.headers.get("api-key") != KEY:
            return _error(401, "401", "Access denied due to invalid subscription key or wrong API endpoint.")
        versions = parse_qs(address.query).get("api-version", [])
        if versions != ([] if self.api_version is None else [self.api_version]):
            return _error(404, "404", "Resource not found")
        if request.method == "GET" and address.path == f"{self._root}/models":
            return _models
        if self._deployment(address.path, call.body) not in self.deployments:
            return _error(404, "DeploymentNotFound", "The API deployment for this resource does not exist.")
        return self._scripted.popleft() if self._scripted else _filtered

    @property
    def _root(self) -> str:
        return "/openai/v1" if self.api_version is None else "/openai"

    def _deployment(self, path: str, body: dict[str, Any]) -> str:
        if self.api_version is None:
            return str(body["model"]) if path == "/openai/v1/chat/completions" else ""
        start, end = "/openai/deployments/", "/chat/completions"
        return unquote(path[len(start) : -len(end)]) if path.startswith(start) and path.endswith(end) else ""


async def _filtered(call: Call) -> None:
    """A right answer with what Azure's filters say of it, the prompt's in a chunk of its own."""
    if not call.stream:
        completion = answers.completion(call.body)
        for choice in completion["choices"]:
            choice["content_filter_results"] = FILTERS
        completion["prompt_filter_results"] = [{"prompt_index": 0, "content_filter_results": FILTERS}]
        await call.answer(json.dumps(completion).encode())
        return
    prelude = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": []}
    await call.begin_stream()
    await call.part(b"data: %b\n\n" % json.dumps(prelude).encode())
    for frame in answers.frames(call.body):
        await call.part(frame.replace(b'"logprobs": null', b'"content_filter_results": {}, "logprobs": null'))
    # The asynchronous filter's last word has a choice without a delta.
    last = {"choices": [{"index": 0, "finish_reason": None, "content_filter_offsets": {"check_offset": 44}}]}
    await call.part(b"data: %b\n\n" % json.dumps(last).encode())
    await call.end_stream()


async def _models(call: Call) -> None:
    data = [
        {"id": "gpt-4o", "capabilities": {"chat_completion": True, "embeddings": False}},
        {"id": "text-embedding-3-small", "capabilities": {"chat_completion": False, "embeddings": True}},
        {"id": "dall-e-3", "capabilities": {"chat_completion": False, "embeddings": False}},
    ]
    await call.answer(json.dumps({"object": "list", "data": data}).encode())


async def content_filter(call: Call) -> None:
    """The prompt was filtered."""
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": FILTERS}
    error = {"message": FILTERED, "param": "prompt", "code": "content_filter", "status": 400, "innererror": inner}
    await call.answer(json.dumps({"error": error}).encode(), 400)


def _error(status: int, code: str, message: str) -> Behaviour:
    async def behaviour(call: Call) -> None:
        await call.answer(json.dumps({"error": {"code": code, "message": message}}).encode(), status)

    return behaviour
