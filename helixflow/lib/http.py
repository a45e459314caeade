"""Calls to addresses that people outside have chosen: one POST, never inwards, never for longer than allowed.

``requests-hardened`` looks names up, refuses what is not public, and has the address dialled that it has judged. Here
are a second judgement at the socket, and a wall-clock deadline over everything: each wait, be it for a byte, gets the
time that is left. Why so: docs/decisions/0013-calls-to-addresses-of-customers.md.
"""

import http.client
import io
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final, cast

import certifi
import requests
from django.conf import settings
from requests_hardened.ip_filter import InvalidIPAddress
from requests_hardened.ip_filter_adapter import IPFilterAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError

from helixflow.lib import addresses, errors, lookups

REFUSED_ADDRESS: Final = "refused_address"
DNS: Final = "dns"
CONNECT: Final = "connect"
TLS: Final = "tls"
TIMEOUT: Final = "timeout"
BROKEN_ANSWER: Final = "broken_answer"

# Of one process. Anybody can send a name whose server says nothing, and the threads that serve pages are few.
CHECKS_AT_ONCE: Final = 4
_checks = threading.BoundedSemaphore(CHECKS_AT_ONCE)

_HEAD_BYTES: Final = 256 * 1024
_CHUNKING: Final = 8  # a chunk of one byte takes six

# It logs each odd header with the whole URL, whose query may hold a secret, and whoever is called decides how often.
logging.getLogger("urllib3.connection").setLevel(logging.CRITICAL)


class CallFailed(Exception):
    """No answer. ``code`` is one of the above, ``message`` is for the owner of the URL, ``address`` was dialled."""

    def __init__(self, code: str, message: str, address: str | None = None) -> None:
        self.code = code
        self.message = message
        self.address = address
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Answer:
    """``body`` is as it came, compressed or not, and at most as long as asked for: if it was longer, ``truncated``.

    Headers that came several times are joined by commas.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    truncated: bool
    address: str | None


def check_url(url: str) -> None:
    """Whether calls can be made to it now. Looks its name up, for 3 s at most.

    Raises errors.InvalidRequest; ServiceUnavailable while others' names are being looked up and take long.
    """
    try:
        target = addresses.parse(url)
        found = [target.host] if target.is_address else _resolve(target)
        for address in found:  # any of them may be the first when it comes to calls
            addresses.judge(address, port=target.port, host=target.host)
    except addresses.Refused as refused:
        raise errors.InvalidRequest(refused.message, param="url") from None


def post(url: str, *, body: bytes, headers: Mapping[str, str], timeout_s: float, read_bytes: int) -> Answer:
    """One call on a connection of its own. Raises CallFailed; a 3xx is an answer like any other.

    ``timeout_s`` is for all of it: looking up, connecting, TLS, sending, and the answer to its end or to ``read_bytes``
    of its body. No redirect is followed, nothing is decompressed; proxies, .netrc and cookies play no part.
    """
    try:
        target = addresses.parse(url)
    except addresses.Refused as refused:
        raise CallFailed(REFUSED_ADDRESS, refused.message) from None
    call = _Call(target, timeout_s, _HEAD_BYTES + _CHUNKING * read_bytes)
    adapter = _Adapter(call)
    try:
        return _answer(adapter.send(_request(target, body, headers), stream=True), call, read_bytes)
    except CallFailed as failure:
        failure.address = call.address
        raise
    except (requests.RequestException, HTTPError, http.client.HTTPException, OSError, ValueError) as error:
        raise CallFailed(BROKEN_ANSWER, _broken(error, call), call.address) from error
    finally:
        call.close()


def _resolve(target: addresses.Target) -> list[str]:
    if not _checks.acquire(blocking=False):
        raise errors.ServiceUnavailable("Too many names are being looked up. Try again.", retry_after=3)
    try:
        return addresses.resolve(target.host, target.port, timeout_s=addresses.RESOLVE_S)
    finally:
        _checks.release()


class _Call:
    """What the parts of a call share: its time and bytes, how far it has come, and what to close at its end."""

    def __init__(self, target: addresses.Target, timeout_s: float, bytes_left: int) -> None:
        self.target = target
        self.address: str | None = None
        self.waiting_for = f"The name {target.host} could not be resolved"
        self.response: io.IOBase | None = None
        self.connection: HTTPConnection | None = None
        self._timeout_s = timeout_s
        self._ends_at = time.monotonic() + timeout_s
        self._bytes_left = bytes_left

    def left_s(self) -> float:
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise self.too_late()
        return left

    def too_late(self) -> CallFailed:
        return CallFailed(TIMEOUT, f"{self.waiting_for} within {self._timeout_s:g} s.")

    def count(self, received: int) -> None:
        self._bytes_left -= received
        if self._bytes_left < 0:
            raise CallFailed(BROKEN_ANSWER, "The answer's headers or chunks are far too long.")

    def close(self) -> None:
        for each in (self.response, self.connection):
            if each is not None:
                each.close()


class _Bounded(socket.socket):
    """A socket that waits for nothing longer than its call may take."""

    call: _Call  # set once it is connected; what is waited for before goes by the plain time-out

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        self.settimeout(self.call.left_s())
        try:
            received = super().recv_into(buffer, nbytes or 0, flags)
        except TimeoutError:
            raise self.call.too_late() from None
        self.call.count(received)
        return received

    def sendall(self, data: Any, flags: int = 0) -> None:
        self.settimeout(self.call.left_s())
        try:
            super().sendall(data, flags)
        except TimeoutError:
            raise self.call.too_late() from None


class _BoundedTLS(_Bounded, ssl.SSLSocket):
    def send(self, data: Any, flags: int = 0) -> int:  # sendall() calls it again and again
        self.settimeout(self.call.left_s())
        return super().send(data, flags)


class _Connection(HTTPConnection):
    """To the address that was judged, and no other."""

    def __init__(self, *args: Any, call: _Call, **options: Any) -> None:
        super().__init__(*args, **options)
        self.call = call
        call.connection = self

    def connect(self) -> None:
        target = self.call.target
        try:
            address = addresses.judge(self.host.strip("[]"), port=target.port, host=target.host)
        except addresses.Refused as refused:
            raise CallFailed(REFUSED_ADDRESS, refused.message) from None
        self.call.address = address
        self.call.waiting_for = f"No connection to {target.host}, port {target.port},"
        bounded = self._dial(address, target.port)
        if target.scheme == "https":
            self.call.waiting_for = f"The TLS handshake with {target.host} did not end"
            bounded = self._wrap(bounded, target.host.rstrip("."))
        bounded.call = self.call
        self.sock = bounded
        self.call.waiting_for = "The receiver did not answer"

    def _dial(self, address: str, port: int) -> _Bounded:
        bounded = _Bounded(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            bounded.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            bounded.settimeout(self.call.left_s())
            bounded.connect((address, port))
            bounded.settimeout(self.call.left_s())  # for the handshake, which counts it as a whole
        except BaseException as error:
            bounded.close()
            if isinstance(error, TimeoutError) and error.errno is None:  # the system's own has an errno
                raise self.call.too_late() from None
            if isinstance(error, OSError):
                raise CallFailed(CONNECT, _unconnected(error, self.call.target)) from error
            raise
        return bounded

    def _wrap(self, bounded: _Bounded, host: str) -> _BoundedTLS:
        try:
            wrapped = _tls_context().wrap_socket(bounded, server_hostname=host)
        except TimeoutError:
            raise self.call.too_late() from None
        except ssl.SSLCertVerificationError as error:
            raise CallFailed(TLS, _bad_certificate(error, host)) from error
        except (OSError, ValueError) as error:
            raise CallFailed(TLS, f"The TLS handshake with {host} failed. Is this an https port?") from error
        finally:
            bounded.close()  # after a handshake it is empty: its descriptor has moved into the other
        if wrapped.version() is None:  # already gone again, in which case no handshake was tried
            wrapped.close()
            raise CallFailed(TLS, f"{host} closed the connection before the TLS handshake.")
        return cast(_BoundedTLS, wrapped)  # see _tls_context


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _Adapter(IPFilterAdapter):  # type: ignore[misc]  # the library has no types
    """Of one call: nothing is shared with others but the authorities."""

    def __init__(self, call: _Call) -> None:
        super().__init__(is_https_proto=False, allow_loopback=settings.WEBHOOK_ALLOW_LOOPBACK)  # _Connection does TLS
        self._call = call

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> HTTPConnectionPool:
        host_params = self._filtered(request)
        return _Pool(host_params["host"], self._call.target.port, maxsize=1, call=self._call)

    def _filtered(self, request: requests.PreparedRequest) -> Any:
        target = self._call.target
        filtered = partial(self.build_connection_pool_key_attributes, request, True)
        try:
            if target.is_address:  # nothing to look up
                return filtered()[0]
            return lookups.in_time(filtered, self._call.left_s())[0]
        except TimeoutError:
            raise self._call.too_late() from None
        except InvalidIPAddress as error:
            refused = addresses.inward(str(error.args[0]), target.host)
            raise CallFailed(REFUSED_ADDRESS, refused.message) from None
        except (requests.ConnectionError, UnicodeError) as error:
            raise CallFailed(DNS, addresses.unresolvable(target.host).message) from error

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Would have the authorities read anew for each call; they are in the context."""

    def build_response(self, req: Any, resp: Any) -> requests.Response:
        """Without the cookies that the receiver sets."""
        response = requests.Response()
        response.raw = resp
        return response


@cache
def _tls_context() -> ssl.SSLContext:
    """Certificates are checked against the system's authorities and certifi's (slim images have none of their own)."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    context.set_alpn_protocols(["http/1.1"])
    context.sslsocket_class = _BoundedTLS
    return context


def _request(target: addresses.Target, body: bytes, headers: Mapping[str, str]) -> requests.PreparedRequest:
    request = requests.PreparedRequest()
    request.method = "POST"
    request.url = target.url
    request.body = body
    fixed = {"Content-Length": str(len(body)), "Accept-Encoding": "identity", "Connection": "close"}
    request.prepare_headers({"Accept": "*/*"} | dict(headers) | fixed)
    return request


def _answer(response: requests.Response, call: _Call, read_bytes: int) -> Answer:
    raw = call.response = response.raw
    call.waiting_for = "The receiver's answer began, but did not end"
    body = bytearray()
    while len(body) <= read_bytes and (part := raw.read(read_bytes + 1 - len(body), decode_content=False)):
        body += part
    return Answer(
        status=raw.status,
        headers=dict(raw.headers.itermerged()),
        body=bytes(body[:read_bytes]),
        truncated=len(body) > read_bytes,
        address=call.address,
    )


def _unconnected(error: OSError, target: addresses.Target) -> str:
    if isinstance(error, ConnectionRefusedError):
        return f"{target.host} refused the connection to port {target.port}. Is the receiver running?"
    return f"{target.host}, port {target.port}, can't be reached."


def _bad_certificate(error: ssl.SSLCertVerificationError, host: str) -> str:
    match error.verify_code:
        case 62 | 64:  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
            return f"The certificate is not valid for {host}."
        case 9 | 10:  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
            return f"The certificate of {host} has expired or is not valid yet."
        case 18 | 19:  # self-signed, alone or at the end of its chain
            return f"The certificate of {host} is self-signed. Use one of a public authority."
        case 2 | 7 | 20 | 21:  # no issuer to be found, or another of the same name
            return f"The certificate of {host} is not from a known authority, or intermediate ones are not sent along."
    return f"The certificate of {host} is not valid."


def _broken(error: BaseException, call: _Call) -> str:
    """What is wrong with an answer, by the error at the root."""
    roots = list(_chain(error))
    if call.response is not None:
        return "The connection ended in the middle of the answer, or the answer is not valid HTTP."
    if any(isinstance(root, http.client.RemoteDisconnected | ConnectionError) for root in roots):
        return "The receiver closed the connection without an answer."
    return "The answer is not valid HTTP."


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
