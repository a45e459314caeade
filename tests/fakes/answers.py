"""What the fake upstream says when it behaves: completions, embeddings and frames of streams, with a vendor's extras.

Which it is shows in the body: chat has messages, a text completion its prompt and an embedding its input.
"""

import base64
import json
import struct
from typing import Any

TOKENS = ["Hello", "!", " How", " can", " I", " help", " you", " today", "? 🌍 Grüße\u2028"]
TEXT = "".join(TOKENS)
USAGE = {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}
UPSTREAM_ID = "chatcmpl-upstream-secret"
UPSTREAM_MODEL = "/models/secret-path/weights.gguf"
# None of these is OpenAI's or a caller's business.
VENDOR_FIELDS = {
    "timings": {"prompt_ms": 1.5, "predicted_ms": 7.25},
    "model_path": "/srv/models/weights.gguf",
    "provider_trace": {"host": "10.1.2.3"},
}
ARGUMENTS = ['{"city"', ': "Zürich"}']


def completion(body: dict[str, Any]) -> dict[str, Any]:
    if "input" in body:
        return _embeddings(body)
    if "prompt" in body:
        choices = [_text_choice(index, TEXT, finish_reason="stop") for index in _text_indexes(body)]
        return _text(*choices) | {"usage": USAGE}
    return {
        "id": UPSTREAM_ID,
        "object": "chat.completion",
        "created": 1677652288,
        "model": UPSTREAM_MODEL,
        "choices": [_choice(body, index) for index in range(body.get("n") or 1)],
        "usage": USAGE,
        "system_fingerprint": "fp_44709d6fcb",
        **VENDOR_FIELDS,
    }


def frames(body: dict[str, Any]) -> list[bytes]:
    """The frames of a stream, ``[DONE]`` included; the usage chunk only if it was asked for."""
    if "prompt" in body:
        return _frames(body, _text_chunks(body), _text())
    choices = range(body.get("n") or 1)
    chunks = [_chunk(_delta(index, {"role": "assistant", "content": ""})) for index in choices]
    if body.get("tools"):
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": _tool(body), "arguments": ""}}
        deltas: list[dict[str, Any]] = [{"tool_calls": [call]}]
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in ARGUMENTS]
    else:
        deltas = [{"content": token} for token in TOKENS]
    chunks += [_chunk(_delta(index, delta)) for delta in deltas for index in choices]
    reason = "tool_calls" if body.get("tools") else "stop"
    chunks += [_chunk(_delta(index, {}, finish_reason=reason)) for index in choices]
    return _frames(body, chunks, _chunk())


def vector(index: int, dimensions: int | None = None) -> list[float]:
    """Of the input with this index. All are floats that 32 bits can hold."""
    return [index + 0.5, -0.25, 1.0, 0.125][: dimensions or 4]


def packed(floats: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(floats)}f", *floats)).decode()


def _frames(body: dict[str, Any], chunks: list[dict[str, Any]], last: dict[str, Any]) -> list[bytes]:
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks.append(last | {"usage": USAGE})
    lines = [json.dumps(chunk, ensure_ascii=False).encode() for chunk in chunks]
    return [b"data: %b\n\n" % line for line in [*lines, b"[DONE]"]]


def _choice(body: dict[str, Any], index: int) -> dict[str, Any]:
    if body.get("tools"):
        function = {"name": _tool(body), "arguments": "".join(ARGUMENTS)}
        call = {"id": "call_1", "type": "function", "function": function}
        message: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [call]}
        return {"index": index, "message": message, "finish_reason": "tool_calls", "logprobs": None}
    message = {"role": "assistant", "content": TEXT, "refusal": None}
    return {"index": index, "message": message, "finish_reason": "stop", "logprobs": None}


def _chunk(*choices: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": UPSTREAM_ID,
        "object": "chat.completion.chunk",
        "created": 1677652288,
        "model": UPSTREAM_MODEL,
        "system_fingerprint": "fp_44709d6fcb",
        "choices": list(choices),
        **VENDOR_FIELDS,
    }


def _delta(index: int, delta: dict[str, Any], *, finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish_reason, "logprobs": None}


def _tool(body: dict[str, Any]) -> str:
    name: str = body["tools"][0]["function"]["name"]
    return name


def _count(inputs: Any) -> int:
    return 1 if isinstance(inputs, str) or isinstance(inputs[0], int) else len(inputs)


def _text_indexes(body: dict[str, Any]) -> range:
    return range(_count(body["prompt"]) * (body.get("n") or 1))


def _text(*choices: dict[str, Any]) -> dict[str, Any]:
    return _chunk(*choices) | {"id": "cmpl-upstream-secret", "object": "text_completion"}


def _text_choice(index: int, text: str, *, finish_reason: str | None = None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish_reason}


def _text_chunks(body: dict[str, Any]) -> list[dict[str, Any]]:
    indexes = _text_indexes(body)
    chunks = [_text(_text_choice(index, token)) for token in TOKENS for index in indexes]
    return chunks + [_text(_text_choice(index, "", finish_reason="stop")) for index in indexes]


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    vectors = [vector(index, body.get("dimensions")) for index in range(_count(body["input"]))]
    packs = body.get("encoding_format") == "base64"
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": packed(floats) if packs else floats, **VENDOR_FIELDS}
            for index, floats in enumerate(vectors)
        ],
        "model": UPSTREAM_MODEL,
        "usage": {"prompt_tokens": 9, "total_tokens": 9},
        **VENDOR_FIELDS,
    }
