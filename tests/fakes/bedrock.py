"""A fake AWS Bedrock on loopback: strict about signatures and bodies, and itself held to AWS's model of its answers.

It is asked for ``/model/{id}/converse``, ``…/converse-stream`` and, of models that embed, ``…/invoke``, and lists its
models under ``/foundation-models``.
A behaviour that is not scripted answers as asked: with a call of the first tool where tools are offered and not yet
used, else with text.
"""

import json
from typing import Any
from urllib.parse import unquote

from tests.fakes import aws
from tests.fakes.behaviours import Behaviour, Call
from tests.fakes.upstream import Upstream

KEY_ID = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
SESSION_TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//////////wEaCXVzLWVhc3QtMSJHMEUCIQ=="
API_KEY = "ABSKQmVkcm9ja0FQSUtleS1leGFtcGxlOjEyMzQ1Njc4OTA="
REGION = "eu-central-1"

TOKENS = ["Hello", "!", " How", " are", " you", "? 🌍 Grüße\u2028"]
TEXT = "".join(TOKENS)
THOUGHT = "They greet me."
ARGUMENTS = ['{"city"', ': "Zürich"}']
USAGE = {
    "inputTokens": 20,
    "outputTokens": 12,
    "totalTokens": 39,
    "cacheReadInputTokens": 4,
    "cacheWriteInputTokens": 3,
}
METRICS = {"latencyMs": 120}


def _model(name: str, makes: str, asked: str) -> dict[str, Any]:
    return {"modelId": name, "outputModalities": [makes], "inferenceTypesSupported": [asked]}


MODELS = [
    _model("amazon.titan-text-express-v1", "TEXT", "ON_DEMAND"),
    _model("stability.sd3-5-large-v1:0", "IMAGE", "ON_DEMAND"),
    _model("anthropic.claude-sonnet-4-5-20250929-v1:0", "TEXT", "INFERENCE_PROFILE"),
    _model("amazon.titan-embed-text-v2:0", "EMBEDDING", "ON_DEMAND"),
]


class Bedrock(Upstream):
    """Takes signatures under KEY_ID, with ``session_token`` if it has one, or API_KEY as a bearer token."""

    session_token: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _behaviour(self, call: Call) -> Behaviour:
        if problem := self._stranger(call):
            return refusal(403, problem, "UnrecognizedClientException")
        if call.request.path == "/foundation-models":
            return models
        parts = call.request.path.split("/")
        if len(parts) == 4 and parts[3] == "invoke":
            return self._scripted.popleft() if self._scripted else embed(unquote(parts[2]))
        if len(parts) != 4 or parts[1] != "model" or parts[3] not in {"converse", "converse-stream"}:
            return refusal(404, "no such operation", "UnknownOperationException")
        if problem := body_problem(unquote(parts[2]), call.body):
            return refusal(400, problem, "ValidationException")
        call.stream = parts[3] == "converse-stream"
        return self._scripted.popleft() if self._scripted else answer

    def _stranger(self, call: Call) -> str:
        if call.request.headers.get("authorization") == f"Bearer {API_KEY}":
            return ""
        return aws.signature_problem(
            call.request,
            key_id=KEY_ID,
            secret=SECRET,
            session_token=self.session_token,
            region=REGION,
            service="bedrock",
        )


# What comes


def body_problem(model: str, body: dict[str, Any]) -> str:
    shape = aws.service("bedrock-runtime").operation_model("Converse").input_shape
    if problem := aws.shape_problem(body | {"modelId": model}, shape):
        return problem
    turns = body["messages"]
    if [turn["role"] for turn in turns] != [("user", "assistant")[number % 2] for number in range(len(turns))]:
        return "A conversation must start with a user message, and roles must alternate."
    asked: set[str] = set()
    for turn in turns:
        if problem := _turn_problem(turn, asked, body):
            return problem
        asked = {block["toolUse"]["toolUseId"] for block in turn["content"] if "toolUse" in block}
    return ""


def _turn_problem(turn: dict[str, Any], asked: set[str], body: dict[str, Any]) -> str:
    blocks = turn["content"]
    kinds = {kind for block in blocks for kind in block}
    answered = [block["toolResult"]["toolUseId"] for block in blocks if "toolResult" in block]
    schemas = [tool["toolSpec"]["inputSchema"]["json"] for tool in body.get("toolConfig", {}).get("tools", ())]
    problems = {
        "A message has no content.": not blocks,
        "A block has not exactly one member.": any(len(block) != 1 for block in blocks),
        "The text field in the ContentBlock object is blank.": any(
            not block.get("text", "some").strip() for block in blocks
        ),
        "The toolConfig field must be defined when using toolUse and toolResult content blocks.": (
            kinds & {"toolUse", "toolResult"} and not schemas
        ),
        "Expected toolResult blocks for exactly the toolUse blocks of the turn before.": (
            len(answered) != len(asked) or set(answered) != asked
        ),
        "The value at inputSchema.json.type must be one of: object.": any(
            schema.get("type") != "object" for schema in schemas
        ),
        "Images and documents are for the user.": turn["role"] != "user" and kinds & {"image", "document", "audio"},
        "A document needs a text beside it.": "document" in kinds and "text" not in kinds,
    }
    return next((text for text, present in problems.items() if present), "")


# What goes


async def answer(call: Call) -> None:
    tools = call.body.get("toolConfig", {}).get("tools", ())
    used = any("toolResult" in block for turn in call.body["messages"] for block in turn["content"])
    name = tools[0]["toolSpec"]["name"] if tools and not used else None
    if call.stream:
        await send_stream(call, events(name))
    else:
        await send(call, converse(name))


def converse(tool: str | None = None, **changes: Any) -> dict[str, Any]:
    content: list[dict[str, Any]] = [
        {"reasoningContent": {"reasoningText": {"text": THOUGHT, "signature": "c2lnbmF0dXJl"}}}
    ]
    if tool:
        call = {"toolUseId": "tooluse_1", "name": tool, "input": json.loads("".join(ARGUMENTS))}
        content.append({"toolUse": call})
    else:
        content += [{"text": TEXT[:5]}, {"text": TEXT[5:]}]
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": "tool_use" if tool else "end_turn",
        "usage": USAGE,
        "metrics": METRICS,
    } | changes


def events(tool: str | None = None, *, stop_reason: str | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Names and fields of a stream's events: a thought, then text or a call of the tool."""
    made: list[tuple[str, dict[str, Any]]] = [
        ("messageStart", {"role": "assistant"}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": THOUGHT}}}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "c2lnbmF0dXJl"}}}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
    ]
    if tool:
        call = {"toolUse": {"toolUseId": "tooluse_1", "name": tool}}
        made.append(("contentBlockStart", {"contentBlockIndex": 1, "start": call}))
        deltas: list[dict[str, Any]] = [{"toolUse": {"input": piece}} for piece in ARGUMENTS]
    else:
        deltas = [{"text": token} for token in TOKENS]
    made += [("contentBlockDelta", {"contentBlockIndex": 1, "delta": delta}) for delta in deltas]
    made.append(("contentBlockStop", {"contentBlockIndex": 1}))
    made.append(("messageStop", {"stopReason": stop_reason or ("tool_use" if tool else "end_turn")}))
    made.append(("metadata", {"usage": USAGE, "metrics": METRICS}))
    return made


def encoded(events: list[tuple[str, dict[str, Any]]]) -> list[bytes]:
    """As messages of an event stream, each padded in ``p`` as AWS does against the measuring of lengths."""
    shape = aws.service("bedrock-runtime").operation_model("ConverseStream").output_shape.members["stream"]
    for name, fields in events:
        assert not aws.shape_problem(fields, shape.members[name]), aws.shape_problem(fields, shape.members[name])
    return [
        aws.event(name, fields | {"p": "abcdefghij"[: number % 10]}) for number, (name, fields) in enumerate(events)
    ]


async def send(call: Call, answer: dict[str, Any]) -> None:
    problem = aws.shape_problem(answer, aws.service("bedrock-runtime").operation_model("Converse").output_shape)
    assert not problem, problem
    await call.answer(json.dumps(answer, ensure_ascii=False).encode())


async def send_stream(call: Call, events: list[tuple[str, dict[str, Any]]], *more: bytes) -> None:
    content_type = "application/vnd.amazon.eventstream"
    await call.head(200, "Transfer-Encoding: chunked", content_type=content_type)
    for part in (*encoded(events), *more):
        await call.part(part)
    await call.end_stream()


def embed(model: str) -> Behaviour:
    """As Titan does, or Cohere: strict about what they are asked."""

    async def behaviour(call: Call) -> None:
        said = call.body
        if "titan" in model and said.keys() <= {"inputText", "dimensions"} and isinstance(said.get("inputText"), str):
            vector = [0.5, -0.25, 1.0][: said.get("dimensions", 3)]
            answer = {"embedding": vector, "embeddingsByType": {"float": vector}, "inputTextTokenCount": 5}
        elif "cohere" in model and said.keys() <= {"texts", "input_type", "embedding_types", "output_dimension"}:
            vectors = [[float(len(text)), 0.5] for text in said["texts"]]
            answer = {"id": "1", "texts": said["texts"], "response_type": "embeddings_by_type"}
            answer["embeddings"] = {"float": vectors} if said["embedding_types"] == ["float"] else {}
        else:
            await refusal(400, "Malformed input request, please reformat your input.", "ValidationException")(call)
            return
        await call.answer(json.dumps(answer).encode())

    return behaviour


def whole(answer: dict[str, Any]) -> Behaviour:
    async def behaviour(call: Call) -> None:
        await send(call, answer)

    return behaviour


def stream(events: list[tuple[str, dict[str, Any]]], *more: bytes) -> Behaviour:
    """``more``: bytes after the events."""

    async def behaviour(call: Call) -> None:
        await send_stream(call, events, *more)

    return behaviour


def refusal(status: int, message: str, kind: str) -> Behaviour:
    """AWS says in a header which error it is."""

    async def behaviour(call: Call) -> None:
        await call.answer(
            json.dumps({"message": message}).encode(), status, f"x-amzn-ErrorType: {kind}:http://internal"
        )

    return behaviour


async def models(call: Call) -> None:
    found = [
        {"modelArn": f"arn:aws:bedrock:{REGION}::foundation-model/{model['modelId']}", **model} for model in MODELS
    ]
    # AWS says INFERENCE_PROFILE too, though its own model of the answer doesn't know that type.
    modelled = [model | {"inferenceTypesSupported": []} for model in found]
    shape = aws.service("bedrock").operation_model("ListFoundationModels").output_shape
    problem = aws.shape_problem({"modelSummaries": modelled}, shape)
    assert not problem, problem
    await call.answer(json.dumps({"modelSummaries": found}).encode())
