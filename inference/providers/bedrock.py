"""AWS Bedrock: its Converse API, and embeddings, signed with an account's access key or under a Bedrock API key.

https://docs.aws.amazon.com/bedrock/latest/userguide/conversation-inference.html
"""

import re
from dataclasses import replace
from typing import Any, ClassVar, Final
from urllib.parse import quote

import msgspec

from inference.answers import Answer, BadAnswer
from inference.embeddings import Embeddings
from inference.providers import adapter, bedrock_answers, bedrock_embeddings, bedrock_requests
from inference.providers.adapter import Account, Adapter, Blame, Listing, Operation, Refusal, StreamReader, Wire
from inference.schemas import ChatRequest
from inference.text_schemas import EmbeddingRequest
from inference.upstream import Origin, header_lines

_REGION: Final = re.compile(r"[a-z0-9-]+\Z")
# Refusals that are of our settings or our account, though their status blames the request. The kind of an error is in
# a header, so what is left are AWS's own sentences.
_OURS: Final = re.compile(
    r"model identifier is invalid|on-demand throughput|inference profile|not authorized|access denied"
    r"|operation not allowed|model access|security token|request signature|authorization header|marketplace|api key"
    r"|service quota|doesn't support the [\w-]+ (?:action|operation)",
    re.IGNORECASE,
)
_OUR_TYPES: Final = re.compile(r"AccessDenied|UnrecognizedClient|ExpiredToken|Signature|MissingAuth|ResourceNotFound")
_MAKES: Final = {"TEXT", "EMBEDDING"}  # the others make pictures
# Models that are asked through an inference profile have its geography before their names.
_GEOGRAPHIES: Final = {"us-gov-": "us-gov.", "us-": "us.", "eu-": "eu."}


class BedrockAdapter(Adapter):
    """A credential is ``ACCESS_KEY_ID:SECRET``, the same with ``:SESSION_TOKEN``, or a Bedrock API key."""

    operations: ClassVar = frozenset({Operation.CHAT, Operation.EMBEDDING})

    def __init__(self, account: Account) -> None:
        region, credential = account.region.strip(), account.credential.strip()
        parts = credential.split(":")
        signs = len(parts) in {2, 3}
        if not credential or not all(parts) or len(parts) > 3:
            raise ValueError("The credential must be ACCESS_KEY_ID:SECRET, with :SESSION_TOKEN or not, or an API key.")
        if not _REGION.match(region) and (region or signs or not account.base_url):
            raise ValueError("The region must be one of AWS's, such as us-east-1.")
        base_url = account.base_url or f"https://bedrock-runtime.{region}.amazonaws.com"
        super().__init__(replace(account, base_url=base_url))
        self.secrets = (credential, *parts) if signs else (credential,)
        self._region = region
        self._control = Origin.parse(base_url.replace("bedrock-runtime", "bedrock", 1))
        self._bearer = header_lines({"Authorization": f"Bearer {credential}"})  # refuses what headers can't hold
        self._signer = None
        if signs:
            from inference.providers.bedrock_signing import Signer  # see there

            token = parts[2] if len(parts) == 3 else None
            self._signer = Signer(key_id=parts[0], secret=parts[1], session_token=token, region=region)

    async def wire(self, request: ChatRequest, *, upstream_model: str, stream: bool) -> Wire:
        body = bedrock_requests.encode(request, upstream_model=upstream_model)
        return self._wire(upstream_model, "converse-stream" if stream else "converse", body)

    def read_answer(self, request: ChatRequest, body: bytes) -> Answer:
        return bedrock_answers.read_answer(body, single_call=request.parallel_tool_calls is False)

    def stream(self, request: ChatRequest) -> StreamReader:
        return bedrock_answers.ConverseReader(single_call=request.parallel_tool_calls is False)

    async def embedding_wire(self, request: EmbeddingRequest, *, upstream_model: str) -> Wire:
        body = bedrock_embeddings.encode(request, upstream_model=upstream_model)
        return self._wire(upstream_model, "invoke", body)

    def read_embeddings(self, request: EmbeddingRequest, body: bytes) -> Embeddings:
        return bedrock_embeddings.read(body)

    def refusal(self, status: int, retry_after: bytes | None, body: bytes) -> Refusal:
        said = _error(body)
        blame = adapter.blame(status)
        if status == 429 and "not ready" in said.text:  # a model that is being loaded, not a limit
            blame = Blame.PROVIDER
        elif "Throttling" in said.kind:
            blame = Blame.LIMIT
        elif blame is Blame.CALLER and (_OURS.search(said.text) or _OUR_TYPES.search(said.kind)):
            blame = Blame.PROVIDER
        return Refusal(blame, said.text, adapter.retry_after_s(retry_after))

    async def listing(self) -> Listing | None:
        path = "/foundation-models"
        headers = self._signer.headers("GET", self._control, path) if self._signer else self._bearer
        return Listing(self._control, path, headers)

    def read_listing(self, body: bytes) -> list[str]:
        try:
            models = msgspec.json.decode(body, type=_Listed).model_summaries
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            raise BadAnswer(str(problem)) from None
        return [
            self._name(model) for model in models if _MAKES & model.output_modalities or not model.output_modalities
        ]

    def _wire(self, upstream_model: str, operation: str, body: bytes) -> Wire:
        path = f"/model/{quote(upstream_model, safe='')}/{operation}"
        headers = self._signer.headers("POST", self.origin, path, body) if self._signer else self._bearer
        return Wire(path, headers, body)

    def _name(self, model: "_ListedModel") -> str:
        if "ON_DEMAND" in model.inference_types_supported or "INFERENCE_PROFILE" not in model.inference_types_supported:
            return model.model_id
        found = (name for start, name in _GEOGRAPHIES.items() if self._region.startswith(start))
        return next(found, "global.") + model.model_id


class _ListedModel(msgspec.Struct, rename="camel"):
    model_id: str
    inference_types_supported: list[str] = []
    output_modalities: set[str] = set()


class _Listed(msgspec.Struct, rename="camel"):
    model_summaries: list[_ListedModel]


class _Error(msgspec.Struct):
    """AWS's services don't agree on the case of it; ``kind`` is often in a header alone."""

    message: Any = None
    capital: Any = msgspec.field(default=None, name="Message")
    type: Any = msgspec.field(default=None, name="__type")

    @property
    def text(self) -> str:
        return next((text for text in (self.message, self.capital) if isinstance(text, str)), "")

    @property
    def kind(self) -> str:
        return self.type if isinstance(self.type, str) else ""


def _error(body: bytes) -> _Error:
    try:
        return msgspec.json.decode(body, type=_Error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Error()
