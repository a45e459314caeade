"""Every call of the API: what is sent where, and what its answer becomes. No input or output."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Callable, Mapping, TypeVar
from urllib.parse import quote

from helixflow import errors
from helixflow._calls import OPTIONS, Call
from helixflow._objects import Object, Response
from helixflow._pages import Page
from helixflow.types import responses as types

if TYPE_CHECKING:
    from helixflow.types.requests import FileContent

R = TypeVar("R", bound=Response)
_CHUNKS: dict[str, type[Object]] = {"/chat/completions": types.ChatCompletionChunk, "/completions": types.Completion}


class Content(bytes):
    """What is in a file."""

    __slots__ = ()

    @property
    def text(self) -> str:
        return self.decode()


# Inference


def create(path: str, answer: type[Response], params: Mapping[str, Any]) -> Call:
    """A POST of ``params``, of which those of types.CallOptions are about the call and the others its body."""
    body, options = _split(params)
    chunk = _CHUNKS.get(path) if body.get("stream") else None
    return Call("POST", path, _reader(answer), body=body, options=options, chunk=chunk, idempotent=True)


def chat(model: str, messages: Any, params: Mapping[str, Any]) -> Call:
    return create("/chat/completions", types.ChatCompletion, {"model": model, "messages": list(messages), **params})


def completion(model: str, prompt: Any, params: Mapping[str, Any]) -> Call:
    return create("/completions", types.Completion, {"model": model, "prompt": prompt, **params})


def embeddings(model: str, input: Any, params: Mapping[str, Any]) -> Call:
    return create("/embeddings", types.Embeddings, {"model": model, "input": input, **params})


# Reading


def get(path: str, answer: type[Response], params: Mapping[str, Any], *, envelope: bool = False) -> Call:
    query, options = _split(params)
    return Call("GET", path, _reader(answer, envelope=envelope), query=query, options=options)


def listing(path: str, item: type[Response], params: Mapping[str, Any], *, envelope: bool = False) -> Call:
    """A page of a list; it knows the call for the next."""
    query, options = _split(params)

    def read(content: bytes, headers: Mapping[str, str]) -> Page[Any]:
        page: Page[Any] = Page.read(_object(content, headers))
        page["data"] = [item.read(each) for each in page.get("data") or ()]
        page._headers = headers
        if envelope:
            cursor = page["next_cursor"] = (page.pop("meta", None) or {}).get("next_cursor")
            more = {"cursor": cursor} if cursor else None
        else:
            last = page.get("last_id") or (page["data"][-1].get("id") if page["data"] else None)
            more = {"after": last} if page.get("has_more") and last else None
        page._next = listing(path, item, {**params, **more}, envelope=envelope) if more else None
        return page

    return Call("GET", path, read, query=query, options=options)


def models(params: Mapping[str, Any]) -> Call:
    return listing("/models", types.Model, params)


def model(name: str, params: Mapping[str, Any]) -> Call:
    return get(_path("/models", name), types.Model, params)


def health(params: Mapping[str, Any]) -> Call:
    return get("/health", types.Health, params)


def usage(params: Mapping[str, Any]) -> Call:
    return get("/usage", types.Usage, params, envelope=True)


def timeseries(params: Mapping[str, Any]) -> Call:
    return get("/usage/timeseries", types.TimeSeries, params, envelope=True)


def requests(params: Mapping[str, Any]) -> Call:
    return listing("/requests", types.RequestRecord, params, envelope=True)


def request(request_id: str, params: Mapping[str, Any]) -> Call:
    return get(_path("/requests", request_id), types.RequestRecord, params, envelope=True)


# Files


def file_create(file: FileContent, purpose: str, params: Mapping[str, Any]) -> Call:
    body, options = _split(params)
    files = {"file": (*_named(file), "application/octet-stream")}
    return Call("POST", "/files", _reader(types.File), body={"purpose": purpose, **body}, files=files, options=options)


def files(params: Mapping[str, Any]) -> Call:
    return listing("/files", types.File, params)


def file(file_id: str, params: Mapping[str, Any]) -> Call:
    return get(_path("/files", file_id), types.File, params)


def file_content(file_id: str, params: Mapping[str, Any]) -> Call:
    _, options = _split(params)
    return Call("GET", _path("/files", file_id, "content"), lambda content, headers: Content(content), options=options)


def file_delete(file_id: str, params: Mapping[str, Any]) -> Call:
    _, options = _split(params)
    return Call("DELETE", _path("/files", file_id), _reader(types.DeletedFile), options=options)


# Batches


def batch_create(params: Mapping[str, Any]) -> Call:
    return create("/batches", types.Batch, params)


def batches(params: Mapping[str, Any]) -> Call:
    return listing("/batches", types.Batch, params)


def batch(batch_id: str, params: Mapping[str, Any]) -> Call:
    return get(_path("/batches", batch_id), types.Batch, params)


def batch_act(batch_id: str, verb: str, params: Mapping[str, Any]) -> Call:
    """``verb`` is ``cancel`` or ``retry``."""
    body, options = _split(params)
    path = _path("/batches", batch_id, verb)
    is_retry = verb == "retry"  # which makes a batch: there must not be two of it
    return Call("POST", path, _reader(types.Batch), body=body or None, options=options, idempotent=is_retry)


def batch_results(batch_id: str, params: Mapping[str, Any]) -> Call:
    """A page of results as they are on the wire."""
    return listing(_path("/batches", batch_id, "results"), Response, params)


def _split(params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is sent, and what is about the call."""
    options = {name: params[name] for name in OPTIONS if name in params}
    return {name: value for name, value in params.items() if name not in options}, options


def _path(base: str, *parts: str) -> str:
    if not all(parts) or {".", ".."} & set(parts):
        raise ValueError("An id must not be empty.")
    return "/".join([base, *(quote(part, safe="") for part in parts)])


def _named(file: FileContent) -> tuple[str, bytes]:
    """Name and bytes, read at once: what is tried again must be there again. A text is a path."""
    if isinstance(file, tuple):
        name, content = file
        return name, content.encode() if isinstance(content, str) else _named(content)[1]
    if isinstance(file, (bytes, bytearray, memoryview)):
        return "upload.jsonl", bytes(file)
    if isinstance(file, (str, os.PathLike)):
        with open(file, "rb") as opened:
            return os.path.basename(os.fspath(file)), opened.read()
    text: bytes | str = file.read()
    name = os.path.basename(str(getattr(file, "name", ""))) or "upload.jsonl"
    return name, text.encode() if isinstance(text, str) else text


def _reader(answer: type[R], *, envelope: bool = False) -> Callable[[bytes, Mapping[str, str]], R]:
    def read(content: bytes, headers: Mapping[str, str]) -> R:
        data = _object(content, headers)
        if envelope and isinstance(data.get("data"), dict):
            data = data["data"]
        made = answer.read(data)
        made._headers = headers
        return made

    return read


def _object(content: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    try:
        data = json.loads(content)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise errors.APIResponseError(
            "The API's answer is not a JSON object.",
            status=200,
            request_id=headers.get("x-request-id"),
            headers=headers,
        )
    return data
