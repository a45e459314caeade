"""Access tokens of Google Cloud, fetched ahead of need.

``google-auth`` blocks while it asks, so it does so in a thread of its own, one for each account at most. A
token that is valid is used meanwhile, and also when asking fails: a request waits only where there is none.
"""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from inference.providers.adapter import CredentialError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

logger = logging.getLogger(__name__)

Source: TypeAlias = "Callable[[], Credentials]"

SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)
AHEAD_S: Final = 600.0  # tokens live for an hour
WAIT_S: Final = 5.0
ASK_S: Final = 10.0  # each try; google-auth makes a few
PAUSE_S: Final = 1.0  # after a failure, doubled with each further one
LONGEST_PAUSE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Token:
    """Times are monotonic. ``value`` in no text."""

    value: str = field(repr=False)
    renew_at: float
    expires_at: float


class Tokens:
    """The tokens of one account, for any number of event loops. ``source`` is called in a thread, once it is needed."""

    def __init__(self, source: Source, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._credentials: Credentials | None = None
        self._token: Token | None = None
        self._lock = threading.Lock()
        self._asking: Future[None] | None = None
        self._failures = 0
        self._retry_at = float("-inf")
        self._problem = ""
        self.latest: tuple[str, ...] = ()  # the newest tokens, for keeping them out of texts

    async def get(self) -> str:
        """Raises CredentialError."""
        token, now = self._token, self._clock()
        if token is not None and now < token.renew_at:
            return token.value
        asking = self._ask(now)
        if token is None or now >= token.expires_at:
            token = await self._wait(asking)
        return token.value

    def _ask(self, now: float) -> Future[None] | None:
        """The asking that is under way, or a new one; None in the pause after a failure."""
        with self._lock:
            if self._asking is None and now >= self._retry_at:
                self._asking = Future()
                # No pool's: a hanging server must not hold up other accounts, nor the process when it stops.
                threading.Thread(target=self._renew, args=[self._asking], name="google-token", daemon=True).start()
            return self._asking

    async def _wait(self, asking: Future[None] | None) -> Token:
        if asking is not None:
            try:
                # Shielded: whoever gives up leaves the asking to the others.
                await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(asking)), WAIT_S)
            except TimeoutError:
                raise CredentialError("Google gave no access token in time.") from None
        token = self._token
        if token is None or self._clock() >= token.expires_at:
            raise CredentialError(f"Google gave no access token: {self._problem or 'it has expired already'}.")
        return token

    def _renew(self, asking: Future[None]) -> None:
        """In a thread. What goes wrong is told to those who have no token."""
        try:
            token = self._fetch()
        except Exception as error:  # noqa: BLE001  # whatever google-auth and what it stands on may raise
            self._put_off(_told(error))
        else:
            with self._lock:
                self._token = token
                self.latest = (token.value, *self.latest[:1])
                self._failures = 0
        with self._lock:
            self._asking = None
        asking.set_result(None)

    def _put_off(self, problem: str) -> None:
        pause = min(PAUSE_S * 2**self._failures, LONGEST_PAUSE_S)
        logger.warning("no access token of Google, the next try is in %.0f s: %s", pause, problem)
        with self._lock:
            self._failures = min(self._failures + 1, 10)
            self._retry_at = self._clock() + pause
            self._problem = problem

    def _fetch(self) -> Token:
        # Loaded where it is needed: a gateway without such a provider does without its 4 MiB.
        from google.auth.transport.requests import Request

        if self._credentials is None:
            self._credentials = self._source()
        credentials = self._credentials
        credentials.refresh(partial(Request(), timeout=ASK_S))  # type: ignore[no-untyped-call]  # google-auth's own
        now = self._clock()
        lives_s = _seconds_to(credentials.expiry)
        if not credentials.token or lives_s <= 0:
            raise CredentialError("it has expired already")
        return Token(credentials.token, now + lives_s - min(AHEAD_S, lives_s / 2), now + lives_s)


def _seconds_to(expiry: datetime | None) -> float:
    """google-auth's times are UTC without saying so. A token without a time is asked for anew within the hour."""
    if expiry is None:
        return 3600.0
    return (expiry.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()


def _told(error: Exception) -> str:
    """The first line alone: what follows can be a whole answer."""
    lines = str(error.args[0]).strip().splitlines() if error.args else []
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """``secrets``: the private key, as it is and as JSON writes it."""

    project: str
    secrets: tuple[str, ...] = field(repr=False)
    source: Source


def service_account(credential: str) -> ServiceAccount:
    """Raises ValueError, which doesn't hold what it was given."""
    from google.oauth2.service_account import Credentials

    try:
        info = msgspec.json.decode(credential, type=dict[str, Any])
        if info.get("type") == "service_account":
            credentials: Credentials = Credentials.from_service_account_info(info, scopes=SCOPES)  # type: ignore[no-untyped-call]  # google-auth's own
            key: str = info["private_key"]
            lines = [line for line in key.splitlines() if not line.startswith("-----")]
            secrets = (key, json.dumps(key)[1:-1], "".join(lines), *(line for line in lines if len(line) >= 16))
            return ServiceAccount(str(info.get("project_id") or ""), secrets, lambda: credentials)
    except (ValueError, TypeError, AttributeError, RecursionError):  # a malformed one of Google's is a ValueError
        pass
    raise ValueError("The credential must be a service account's key as JSON, or empty.")


def surroundings() -> "Credentials":
    """What the process has where it runs: a file that is named in the environment, or a metadata server's."""
    import google.auth

    credentials, _ = google.auth.default(scopes=SCOPES)
    return credentials
