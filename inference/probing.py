"""Questions to a provider on an operator's behalf: does it answer, which models does it have, and if not, why.

They go through the real adapter and the real client, but on an event loop, connections and tokens of their own, in the
Django thread that asks: nothing of the data plane is touched, and its health learns nothing from them.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import msgspec

from helixflow.lib import crypto
from inference import embeddings, schemas
from inference.answers import BadAnswer, Chunk, UpstreamStreamError, Usage
from inference.catalogue import DEADLINES, account_of
from inference.connection import Connection
from inference.failures import FAILURES, clean
from inference.models import Deployment, Provider
from inference.providers import adapter_for
from inference.providers.adapter import Account, Adapter, Blame, CredentialError, Operation, StreamReader, Unsupported
from inference.text_schemas import parse_embedding_request
from inference.upstream import (
    Origin,
    Response,
    UpstreamClient,
    UpstreamConnectError,
    UpstreamDisconnected,
    UpstreamProtocolError,
    UpstreamTimeout,
)

WITHIN_S: Final = 15.0
MAX_LISTING: Final = 16 * 1024 * 1024
MAX_ANSWER: Final = 1024 * 1024  # of a stream that was asked for a few words
MAX_ERROR_BODY: Final = 64 * 1024
SHOWN_CHARS: Final = 200
GREETING: Final = b"""{"model": "probe", "messages": [{"role": "user", "content": "Say hello in one short sentence."}],
    "max_tokens": 32, "stream": true}"""
WORDS: Final = b'{"model": "probe", "input": "hello"}'


@dataclass(slots=True)
class Report:
    """What came of a question. ``address`` is without query and credentials; times count from the question on.

    ``error`` is clean of secrets and empty if all went well; ``hint`` says what to do about it.
    """

    address: str = ""
    status: int | None = None
    connect_ms: int | None = None
    first_token_ms: int | None = None
    total_ms: int = 0
    said: str = ""
    models: list[str] = field(default_factory=list)
    error: str = ""
    hint: str = ""

    @property
    def ok(self) -> bool:
        return not self.error


def ask_deployment(deployment: Deployment, operation: Operation | None = None) -> Report:
    """Have its model say a few words, or make an embedding. None: whichever its name suggests."""
    if (operation or likely_operation(deployment)) is Operation.EMBEDDING:
        return _ask(deployment.provider, lambda probe: probe.embed(deployment.upstream_model))
    return _ask(deployment.provider, lambda probe: probe.converse(deployment.upstream_model))


def likely_operation(deployment: Deployment) -> Operation:
    return Operation.EMBEDDING if "embed" in deployment.upstream_model.lower() else Operation.CHAT


def ask_models(provider: Provider) -> Report:
    """Have it list its models."""
    return _ask(provider, lambda probe: probe.list_models())


def new_adapter(account: Account) -> Adapter:
    """One that shares nothing with the data plane's, whose token may outlive its credential. Raises ValueError."""
    return adapter_for.__wrapped__(account)


def _ask(provider: Provider, question: Callable[["_Probe"], Awaitable[None]]) -> Report:
    report = Report()
    try:
        adapter = new_adapter(account_of(provider))
    except crypto.Undecryptable:
        report.error = "The stored credential can't be opened with the keys in HELIXFLOW_ENCRYPTION_KEYS."
        report.hint = "Put the key it was stored under back into the list, or enter the credential again."
        return report
    except ValueError as error:
        report.error, report.hint = str(error), "Mend the provider's settings."
        return report
    began = time.monotonic()
    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(_Impatient(max_workers=4))
        runner.run(_Probe(adapter, report, began).run(question))
    report.total_ms = _ms_since(began)
    return report


class _Impatient(ThreadPoolExecutor):
    """The loop's end doesn't wait for a name server, which may hang for longer than anybody waits for a page."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=True)


class _Probe:
    def __init__(self, adapter: Adapter, report: Report, began: float) -> None:
        self._adapter = adapter
        self._report = report
        self._began = began
        self._client = _Client(self._connected)

    async def run(self, question: Callable[["_Probe"], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(WITHIN_S + 1):  # deadlines that say more come first
                await question(self)
        except TimeoutError:
            self._fail(UpstreamTimeout("total"))
        except (*FAILURES, Unsupported) as error:
            self._fail(error)
        finally:
            await self._client.close()

    async def converse(self, upstream_model: str) -> None:
        request = schemas.parse_chat_request(GREETING)
        wire = await self._adapter.wire(request, upstream_model=upstream_model, stream=True)
        self._sent_to(self._adapter.origin, wire.path)
        response = await self._client.post(
            self._adapter.origin, wire.path, wire.headers, wire.body, DEADLINES.within(WITHIN_S)
        )
        if await self._accepted(response, "The model's name there may be wrong, or it may not be one to chat with."):
            await self._listen(response, self._adapter.stream(request))

    async def embed(self, upstream_model: str) -> None:
        if Operation.EMBEDDING not in self._adapter.operations:
            raise Unsupported("input", "embeddings")
        request = parse_embedding_request(WORDS)
        wire = await self._adapter.embedding_wire(request, upstream_model=upstream_model)
        self._sent_to(self._adapter.origin, wire.path)
        response = await self._client.post(
            self._adapter.origin, wire.path, wire.headers, wire.body, DEADLINES.within(WITHIN_S)
        )
        if await self._accepted(response, "The model's name there may be wrong, or it may not make embeddings."):
            found = self._adapter.read_embeddings(request, await response.read(MAX_ANSWER))
            written = embeddings.write(found, count=1, model="probe", usage=Usage(1, 0, 1), as_base64=False)
            self._report.said = f"A vector of {len(msgspec.json.decode(written)['data'][0]['embedding'])} numbers."

    async def list_models(self) -> None:
        listing = await self._adapter.listing()
        if listing is None:
            self._report.error = "There is no list of models to ask for at this provider's address."
            self._report.hint = "That need not mean that anything is wrong: add a deployment by hand, and test that."
            return
        self._sent_to(listing.origin, listing.path)
        response = await self._client.get(listing.origin, listing.path, listing.headers, DEADLINES.within(WITHIN_S))
        if await self._accepted(response, _NO_LIST, missing=f"Check the base URL. {_NO_LIST}"):
            self._report.models = self._adapter.read_listing(await response.read(MAX_LISTING))

    async def _accepted(self, response: Response, advice: str, *, missing: str = "") -> bool:
        """``missing``: what a 404 means, if no model was named."""
        self._report.status = response.status
        if response.status == 200:
            return True
        body = await response.read(MAX_ERROR_BODY)
        refusal = self._adapter.refusal(response.status, response.header(b"retry-after"), body)
        self._report.error = self._clean(refusal.message) or f"It answered with status {response.status}."
        if response.status == 400 and refusal.blame is Blame.PROVIDER:  # so Google refuses keys
            self._report.hint = _HINTS[403]
        elif response.status == 404 and missing:
            self._report.hint = missing
        else:
            self._report.hint = _HINTS.get(response.status) or _hint_for_class(response.status, advice)
        return False

    async def _listen(self, response: Response, reader: StreamReader) -> None:
        report, size, answered = self._report, 0, False
        while not reader.done:
            data = await response.chunks()
            size += len(data)
            if size > MAX_ANSWER:
                raise BadAnswer("it goes on and on")
            for chunk in reader.feed(data) if data else reader.finish():
                answered = answered or bool(chunk.choices)
                report.said += _words(chunk)
                if report.said and report.first_token_ms is None:
                    report.first_token_ms = _ms_since(self._began)
            if not data:
                break
        report.said = report.said.strip()[:SHOWN_CHARS]
        if not answered:
            raise BadAnswer("the stream ended without an answer")

    def _sent_to(self, origin: Origin, path: str) -> None:
        path = path.partition("?")[0]
        self._report.address = f"{origin.scheme}://{origin.host_header.decode()}{origin.prefix}{path}"

    def _connected(self) -> None:
        self._report.connect_ms = _ms_since(self._began)

    def _fail(self, error: Exception) -> None:
        self._report.error, self._report.hint = _explain(error)
        if detail := self._clean(str(error)).removesuffix(":"):  # some exceptions have a name and no words
            self._report.error += f" ({detail})"

    def _clean(self, text: str) -> str:
        return clean(text, self._adapter.secrets)


class _Client(UpstreamClient):
    def __init__(self, on_connect: Callable[[], None]) -> None:
        super().__init__()
        self._on_connect = on_connect

    async def _connect(self, loop: asyncio.AbstractEventLoop, origin: Origin, connect_s: float) -> Connection:
        connection = await super()._connect(loop, origin, connect_s)
        self._on_connect()
        return connection


def _words(chunk: Chunk) -> str:
    deltas = [choice.delta for choice in chunk.choices or () if choice.delta]
    return "".join((delta.content or delta.reasoning_content or "") for delta in deltas)


def _ms_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


_NO_LIST: Final = "The server may have no list of models: test a deployment instead."
_HINTS: Final = {
    401: "Check the credential: the provider does not know it, or it is another provider's.",
    402: "The account with the provider has no credit left.",
    403: "The credential is wrong, or may not do this: check it, its permissions, the region and access to the model.",
    404: "Check the model's name as the provider writes it, and that the base URL is the one the provider documents.",
    429: "The provider limits this account, or it has no credit left. Callers go to the next deployment meanwhile.",
}


def _hint_for_class(status: int, advice: str) -> str:
    if status >= 500:
        return "The provider has trouble of its own. Try again, and look at its status page if it stays."
    if status >= 400:
        return f"It understood the address and refused the request. {advice}"
    return "The base URL leads elsewhere: redirects are not followed. Enter the address that it points to."


def _explain(error: Exception) -> tuple[str, str]:
    """What went wrong, and what to do about it."""
    match error:
        case UpstreamConnectError():
            return "No connection.", _hint_to_connect(error.__cause__)
        case UpstreamTimeout():
            return "No answer in time.", (
                "The address may be wrong, a firewall may be in between, or the model is still being loaded."
            )
        case UpstreamDisconnected():
            return "The connection was closed before the answer was complete.", (
                "Something between here and the provider may cut it. Check that http or https is right."
            )
        case UpstreamProtocolError():
            return "What answered does not speak HTTP as we know it.", "Check port, and http or https, of the base URL."
        case CredentialError():
            return "No access token could be had with this credential.", "Check the credential and what it may do."
        case Unsupported():
            return "This kind of provider can't be asked that.", "Have another kind of provider answer for the model."
        case UpstreamStreamError():
            return "The provider reported an error instead of an answer.", "Try again, and look at its status page."
    return "The answer makes no sense.", "Check that the base URL is an API of this kind, up to and including /v1."


def _hint_to_connect(cause: BaseException | None) -> str:
    match cause:
        case socket.gaierror():
            return "The host's name is not known here: check its spelling, and this machine's name server."
        case ssl.SSLError():
            return "TLS failed: check http or https, and that the certificate is from an authority known here."
        case ConnectionRefusedError():
            return "Nothing listens at that address and port: check both, and that the server runs."
        case TimeoutError():
            return "Nobody answers there: check the address, http or https, and the firewalls in between."
    return "Check address and port, and the firewalls in between."
