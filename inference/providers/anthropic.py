"""Anthropic's Messages API, natively: where it is, under which headers, and what its refusals mean.

``anthropic_requests`` and ``anthropic_answers`` translate.
"""

from typing import Final

import msgspec

from inference.answers import Answer, BadAnswer
from inference.providers.adapter import (
    Account,
    Adapter,
    Blame,
    Listing,
    Refusal,
    StreamReader,
    Wire,
    blame,
    retry_after_s,
)
from inference.providers.anthropic_answers import EventReader, read_answer
from inference.providers.anthropic_requests import translate
from inference.schemas import ChatRequest
from inference.upstream import header_lines

VERSION: Final = "2023-06-01"

# Said with the status of a caller's mistake, of what the account's owner alone can mend. Compared with the beginning,
# where no caller can have their own words.
_ACCOUNT: Final = ("Your credit balance", "You have reached your specified", "This organization has been disabled")

_encode: Final = msgspec.json.Encoder().encode


class AnthropicAdapter(Adapter):
    default_base_url = "https://api.anthropic.com/v1"

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self.version = account.api_version or VERSION
        key = {"x-api-key": account.credential} if account.credential else {}
        self.headers = header_lines(key | {"anthropic-version": self.version})

    async def wire(self, request: ChatRequest, *, upstream_model: str, stream: bool) -> Wire:
        body = _encode(translate(request, model=upstream_model, stream=stream, version=self.version))
        return Wire("/messages", self.headers, body)

    def read_answer(self, request: ChatRequest, body: bytes) -> Answer:
        return read_answer(body, legacy=offers_functions(request))

    def stream(self, request: ChatRequest) -> StreamReader:
        return EventReader(legacy=offers_functions(request))

    def refusal(self, status: int, retry_after: bytes | None, body: bytes) -> Refusal:
        error = _read_error(body)
        return Refusal(_blame(status, error), error.message, retry_after_s(retry_after))

    async def listing(self) -> Listing | None:
        return Listing(self.origin, "/models?limit=1000", self.headers)

    def read_listing(self, body: bytes) -> list[str]:
        try:
            return [model.id for model in msgspec.json.decode(body, type=_Listed).data]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            raise BadAnswer(str(problem)) from None


def offers_functions(request: ChatRequest) -> bool:
    """Tools by their older name: answered in kind."""
    return bool(request.functions) and not request.tools


class _Error(msgspec.Struct):
    type: str = ""
    message: str = ""


class _ErrorBody(msgspec.Struct):
    error: _Error


class _ListedModel(msgspec.Struct):
    id: str


class _Listed(msgspec.Struct):
    data: list[_ListedModel]


def _read_error(body: bytes) -> _Error:
    try:
        return msgspec.json.decode(body, type=_ErrorBody).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Error()


def _blame(status: int, error: _Error) -> Blame:
    if error.type in {"overloaded_error", "billing_error"}:
        return Blame.PROVIDER
    if error.type == "rate_limit_error":
        return Blame.LIMIT
    found = blame(status)
    return Blame.PROVIDER if found is Blame.CALLER and error.message.startswith(_ACCOUNT) else found
