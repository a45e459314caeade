"""A fake of Gemini and of Vertex AI: the fake upstream behind ``generateContent``, strict about what it is sent.

What comes is checked against the types of Google's own client, and against the rules that Gemini has beside them:
turns, the pairing of calls with their results, and the signatures of calls. What breaks one gets Google's 400. What it
answers is checked against those types too.
"""

import base64
import json
import re
from typing import Any

from google.genai import types
from pydantic import TypeAdapter, ValidationError

from tests.fakes import answers
from tests.fakes.behaviours import BEHAVIOURS, Behaviour, Call
from tests.fakes.upstream import Upstream

KEY = "AIzaSyFake-0123456789abcdefghijklmnopqrs"
UNSIGNED = "skip_thought_signature_validator"
ARGUMENTS = {"city": "Zürich", "days": 3}
THOUGHT = "They want a forecast. "
USAGE = {
    "promptTokenCount": 9,
    "candidatesTokenCount": 12,
    "thoughtsTokenCount": 5,
    "cachedContentTokenCount": 4,
    "totalTokenCount": 26,
}
VENDOR_FIELDS = {"modelVersion": "gemini-internal-007", "responseId": "secret-response-id"}
_PARTS = {
    "contents": list[types.Content],
    "systemInstruction": types.Content,
    "tools": list[types.Tool],
    "toolConfig": types.ToolConfig,
    "generationConfig": types.GenerationConfig,
}
_METHOD = re.compile(
    r"/(?P<version>v1|v1beta)/(?P<resource>[^?]*):(?P<method>generateContent|streamGenerateContent\?alt=sse)\Z"
)
_EMBEDDING = re.compile(r"/v1(?:beta)?/(?P<model>[^:?]*):(?P<method>batchEmbedContents|embedContent|predict)\Z")
_FREE_FORM = {"args", "response", "parametersJsonSchema", "responseJsonSchema"}


class Refused(Exception):
    pass


class Gemini(Upstream):
    """``token`` set: Vertex AI, which takes it and no key. ``refused`` holds what broke the rules."""

    def __init__(self, *, token: str = "") -> None:
        super().__init__()
        self.token = token
        self.refused: list[str] = []
        self._signatures: dict[str, str] = {}  # of calls, by their ids

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{'v1' if self.token else 'v1beta'}"

    def _behaviour(self, call: Call) -> Behaviour:
        request = call.request
        if not self._authorized(request.headers):
            return google_error(401, "UNAUTHENTICATED", f"Bad credentials: {request.headers.get('authorization')}.")
        if request.method == "GET":
            return self._list_models
        if embedding := _EMBEDDING.match(request.path):
            return self._scripted.popleft() if self._scripted else self._embed(embedding["model"], embedding["method"])
        found = _METHOD.match(request.path)
        resource = "models/" if not self.token else "projects/our-project/locations/"
        if found is None or not found["resource"].startswith(resource):
            return google_error(404, "NOT_FOUND", f"{request.path} is not found.")
        call.stream = found["method"] != "generateContent"
        model = found["resource"].rpartition("/")[2]
        try:
            self._check(request.headers, call.body, model)
        except (Refused, ValidationError) as error:
            self.refused.append(str(error))
            return google_error(400, "INVALID_ARGUMENT", f"Invalid JSON payload received. {error}")
        if self._scripted:
            return self._scripted.popleft()
        return BEHAVIOURS.get(model, self._normal)

    def _authorized(self, headers: dict[str, str]) -> bool:
        if self.token:
            return headers.get("authorization") == f"Bearer {self.token}" and "x-goog-api-key" not in headers
        return headers.get("x-goog-api-key") == KEY and "authorization" not in headers

    def _check(self, headers: dict[str, str], body: dict[str, Any], model: str) -> None:
        _require(headers.get("content-type") == "application/json", "the content type is not JSON")
        _require(set(body) <= set(_PARTS), f"unknown fields {sorted(set(body) - set(_PARTS))}")
        _require(bool(body.get("contents")), "contents is not specified")
        _check_names(body)
        for name, value in body.items():
            check_type(value, _PARTS[name])
        self._check_turns(body["contents"], model)
        names = {each["name"] for tool in body.get("tools", []) for each in tool["functionDeclarations"]}
        calling = body.get("toolConfig", {}).get("functionCallingConfig", {})
        allowed = calling.get("allowedFunctionNames")
        _require(allowed is None or (calling["mode"] == "ANY" and set(allowed) <= names), "allowed names go with ANY")
        _require("tools" not in body or bool(names), "a tool without declarations")
        thinking = body.get("generationConfig", {}).get("thinkingConfig", {})
        _require(("thinkingLevel" in thinking) <= ("gemini-2" not in model), "thinking level is not supported")

    def _check_turns(self, turns: list[dict[str, Any]], model: str) -> None:
        due: list[dict[str, Any]] = []
        for turn in turns:
            parts = turn["parts"]
            _require(turn["role"] in {"user", "model"} and bool(parts), "a turn has a role and parts")
            _require(all(part.get("text") != "" for part in parts), "text is empty")
            data = [set(part) - {"thoughtSignature"} for part in parts]
            _require(all(len(each) == 1 for each in data), "a part is of one kind")
            results = [part["functionResponse"] for part in parts if "functionResponse" in part]
            calls = [part for part in parts if "functionCall" in part]
            _require(not results or len(results) == len(parts), "results have a turn to themselves")
            _require(not calls or turn["role"] == "model", "calls are the model's")
            _require(not results or turn["role"] == "user", "results are the user's")
            wanted = [(each["name"], each.get("id")) for each in due]
            given = [(each["name"], each.get("id")) for each in results]
            _require(given == wanted, f"function responses {given} do not match calls {wanted}")
            due = [part["functionCall"] for part in calls]
            if calls and "gemini-2" not in model:
                self._check_signature(calls[0])

    def _check_signature(self, part: dict[str, Any]) -> None:
        signature = part.get("thoughtSignature")
        _require(signature is not None, "Function call is missing a thought_signature")
        issued = self._signatures.get(part["functionCall"].get("id"))
        _require(signature in {UNSIGNED, issued}, "Corrupted thought signature.")

    async def _normal(self, call: Call) -> None:
        if call.stream:
            await call.begin_stream()
            for piece in self.pieces(call.body):
                await call.part(frame(piece))
            await call.end_stream()
        else:
            await call.answer(json.dumps(self.whole(call.body), indent=2, ensure_ascii=False).encode())

    def whole(self, body: dict[str, Any]) -> dict[str, Any]:
        count = body["generationConfig"].get("candidateCount", 1)
        candidates = [
            {"content": {"role": "model", "parts": self._parts(body)}, "finishReason": "STOP"}
            | ({"index": index} if index else {})
            for index in range(count)
        ]
        return checked({"candidates": candidates, "usageMetadata": USAGE, **VENDOR_FIELDS})

    def pieces(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Counts run on; the last piece has the reason, beside a text that is empty."""
        made = []
        for number, part in enumerate(self._parts(body), start=1):
            usage = USAGE | {"candidatesTokenCount": number, "totalTokenCount": 14 + number}
            made.append({"candidates": [{"content": {"role": "model", "parts": [part]}}], "usageMetadata": usage})
        last = {"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP"}
        made.append({"candidates": [last], "usageMetadata": USAGE})
        return [checked(each | VENDOR_FIELDS) for each in made]

    def _parts(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        mode = body.get("toolConfig", {}).get("functionCallingConfig", {}).get("mode")
        thinking = body["generationConfig"].get("thinkingConfig", {}).get("includeThoughts")
        thoughts = [{"text": THOUGHT, "thought": True}] if thinking else []
        if "tools" not in body or mode == "NONE" or "functionResponse" in body["contents"][-1]["parts"][0]:
            return thoughts + [{"text": token} for token in answers.TOKENS]
        declared = body["tools"][0]["functionDeclarations"]
        return thoughts + [self._call(each["name"], first=not index) for index, each in enumerate(declared)]

    def _call(self, name: str, *, first: bool) -> dict[str, Any]:
        """Of calls in parallel the first is signed."""
        number = len(self._signatures)
        call_id = f"fc-{number}"
        self._signatures[call_id] = base64.b64encode(b"\xfb\xff thought %d" % number * 20).decode()
        part: dict[str, Any] = {"functionCall": {"id": call_id, "name": name, "args": ARGUMENTS}}
        return part | ({"thoughtSignature": self._signatures[call_id]} if first else {})

    def _embed(self, model: str, method: str) -> Behaviour:
        """Vectors begin with the length of their text."""

        async def behaviour(call: Call) -> None:
            body = call.body
            size = {"outputDimensionality"}
            if method == "batchEmbedContents" and not self.token:
                each = body.pop("requests")
                contents = [one.pop("content") for one in each]
                named = all(one.pop("model") == model for one in each)
                self._complain(body, *each, known=size, otherwise=named)
                vectors = [{"values": _vector(content["parts"][0]["text"])} for content in contents]
                await call.answer(json.dumps({"embeddings": vectors}).encode())
            elif method == "embedContent":
                text = body.pop("content")["parts"][0]["text"]
                self._complain(body, known={"embedContentConfig"})
                answer = {"embedding": {"values": _vector(text)}, "usageMetadata": {"promptTokenCount": 3}}
                await call.answer(json.dumps(answer).encode())
            else:
                texts = [instance.pop("content") for instance in body["instances"]]
                one = len(texts) == 1 or "gemini" not in model
                self._complain(*body.pop("instances"), known=set(), otherwise=one and bool(self.token))
                self._complain(body.pop("parameters"), known=size | {"autoTruncate"}, otherwise=not body)
                made = [
                    {"values": _vector(text), "statistics": {"token_count": 2.0, "truncated": False}} for text in texts
                ]
                await call.answer(json.dumps({"predictions": [{"embeddings": each} for each in made]}).encode())

        return behaviour

    def _complain(self, *found: dict[str, Any], known: set[str], otherwise: bool = True) -> None:
        if not otherwise or any(set(each) - known for each in found):
            self.refused.append(f"{found} for {known}")

    async def _list_models(self, call: Call) -> None:
        methods = {
            "gemini-2.5-pro": ["generateContent", "countTokens"],
            "embedding-001": ["embedContent"],
            "aqa": ["other"],
        }
        if self.token:
            names = ["gemini-2.5-pro", "veo-3"]
            body: Any = {"publisherModels": [{"name": f"publishers/google/models/{name}"} for name in names]}
        else:
            body = {
                "models": [
                    {"name": f"models/{name}", "supportedGenerationMethods": can} for name, can in methods.items()
                ]
            }
        await call.answer(json.dumps(body).encode())


def _vector(text: str) -> list[float]:
    return [len(text), 0.5]


def frame(piece: dict[str, Any]) -> bytes:
    return b"data: %b\r\n\r\n" % json.dumps(piece, ensure_ascii=False).encode()


def checked(answer: dict[str, Any]) -> dict[str, Any]:
    types.GenerateContentResponse.model_validate(answer)
    return answer


def candidate(*parts: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    """A response of one candidate."""
    content = {"content": {"role": "model", "parts": list(parts)}} if parts else {}
    return checked({"candidates": [content | ({"finishReason": reason} if reason else {}) | more]})


def google_error(status: int, name: str, message: str, *details: dict[str, Any], listed: bool = False) -> Behaviour:
    error = {"error": {"code": status, "message": message, "status": name, "details": list(details)}}

    async def behaviour(call: Call) -> None:
        await call.answer(json.dumps([error] if listed else error).encode(), status)

    return behaviour


def check_type(value: Any, wanted: Any) -> None:
    """Raises ValidationError. Bytes come as base64 there, as here."""
    TypeAdapter(wanted).validate_json(json.dumps(value))


def _check_names(value: Any) -> None:
    """Google's types take names in snake case too, which is not how we write them."""
    if isinstance(value, dict):
        for name, item in value.items():
            _require("_" not in name, f'Unknown name "{name}"')
            if name not in _FREE_FORM:
                _check_names(item)
    elif isinstance(value, list):
        for item in value:
            _check_names(item)


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise Refused(rule)
