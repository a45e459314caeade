"""Google Vertex AI: Gemini's words, and for Claude Anthropic's, at a project's address under short-lived tokens."""

import re
from typing import ClassVar, Final
from urllib.parse import quote

import msgspec

from inference.answers import Answer, BadAnswer
from inference.providers import gemini_embeddings, google_tokens, vertex_claude
from inference.providers.adapter import Account, Listing, StreamReader, Wire
from inference.providers.gemini import GenerateContentAdapter
from inference.providers.gemini_embeddings import Way
from inference.providers.google_tokens import Tokens
from inference.schemas import ChatRequest
from inference.upstream import Origin, header_lines

_REGION: Final = re.compile(r"[a-z][a-z0-9-]{0,39}\Z")
_PROJECT: Final = re.compile(r"[a-z0-9][a-z0-9.:-]{0,99}\Z")
_SEVERAL_REGIONS: Final = frozenset({"us", "eu"})
_SPOKEN_WITH: Final = ("gemini", "text-embedding", "text-multilingual-embedding")
API_VERSION: Final = "v1"
LISTING_VERSION: Final = "v1beta1"  # the only one that lists publishers' models


class VertexAdapter(GenerateContentAdapter):
    """The credential is a service account's key; an empty one stands for what the process has where it runs."""

    default_base_url: ClassVar[str] = "https://aiplatform.googleapis.com/v1"

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        if account.credential:
            found = google_tokens.service_account(account.credential)
            self._tokens, self._fixed_secrets = Tokens(found.source), found.secrets
            project = account.project or found.project
        else:
            if account.base_url and not _is_googles(self.origin):
                raise ValueError(
                    "What this machine has of credentials goes to Google alone: enter one for this address."
                )
            self._tokens, self._fixed_secrets = Tokens(google_tokens.surroundings), ()
            project = account.project
        region = account.region or "global"
        if not _PROJECT.match(project):
            raise ValueError("The Google Cloud project is missing or not valid.")
        if not _REGION.match(region):
            raise ValueError("The region is not valid.")
        if not account.base_url:
            self.origin = Origin.parse(f"https://{_host(region)}/{quote(account.api_version or API_VERSION)}")
        self._location = f"/projects/{quote(project)}/locations/{region}"
        self._headers = ("", b"")  # of a token

    @property
    def secrets(self) -> tuple[str, ...]:
        return (*self._fixed_secrets, *self._tokens.latest)

    @secrets.setter
    def secrets(self, value: tuple[str, ...]) -> None:
        """The credential as a whole, which is what the base knows, is not what could turn up in a text."""

    async def wire(self, request: ChatRequest, *, upstream_model: str, stream: bool) -> Wire:
        if not vertex_claude.serves(upstream_model):
            return await super().wire(request, upstream_model=upstream_model, stream=stream)
        body = vertex_claude.encode(request, model=upstream_model, stream=stream)
        method = "streamRawPredict" if stream else "rawPredict"
        return Wire(f"{self.resource(upstream_model)}:{method}", await self.headers(), body)

    def read_answer(self, request: ChatRequest, body: bytes) -> Answer:
        if vertex_claude.wrote(body):
            return vertex_claude.read_answer(request, body)
        return super().read_answer(request, body)

    def stream(self, request: ChatRequest) -> StreamReader:
        return vertex_claude.EitherReader(request, other=super().stream(request))

    def embedding_way(self, upstream_model: str) -> Way:
        return gemini_embeddings.way_on_vertex(upstream_model)

    def resource(self, upstream_model: str) -> str:
        """``upstream_model`` may also say where it is: ``publishers/meta/models/…``, or ``endpoints/…``."""
        name = upstream_model
        if "/" not in name:
            name = f"publishers/{'anthropic' if vertex_claude.serves(name) else 'google'}/models/{name}"
        return f"{self._location}/{quote(name, safe='/@')}"

    async def headers(self) -> bytes:
        token = await self._tokens.get()
        known, lines = self._headers
        if known != token:
            lines = header_lines({"Authorization": f"Bearer {token}"})
            self._headers = (token, lines)
        return lines

    async def listing(self) -> Listing | None:
        """Under another version than the answers; none where the address is an operator's own. A credential that gives
        no token is found out in either case."""
        headers = await self.headers()
        if self.account.base_url:
            return None
        origin = Origin.parse(f"https://{self.origin.host}/{LISTING_VERSION}")
        return Listing(origin, "/publishers/google/models?pageSize=1000", headers)

    def read_listing(self, body: bytes) -> list[str]:
        try:
            models = msgspec.json.decode(body, type=_Listed).publisherModels
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            raise BadAnswer(str(problem)) from None
        names = [model.name.removeprefix("publishers/google/models/") for model in models]
        return [name for name in names if name.startswith(_SPOKEN_WITH)]  # the others have words of their own


def _is_googles(origin: Origin) -> bool:
    return origin.scheme == "https" and origin.host.endswith(".googleapis.com")


def _host(region: str) -> str:
    if region == "global":
        return "aiplatform.googleapis.com"
    if region in _SEVERAL_REGIONS:
        return f"aiplatform.{region}.rep.googleapis.com"
    return f"{region}-aiplatform.googleapis.com"


class _ListedModel(msgspec.Struct):
    name: str


class _Listed(msgspec.Struct):
    publisherModels: list[_ListedModel] = []  # noqa: N815  # as it is on the wire
