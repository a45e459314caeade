"""How a client was set up."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Callable, Mapping
from urllib.parse import urlsplit

from helixflow._version import __version__
from helixflow.errors import HelixFlowError

if TYPE_CHECKING:
    from helixflow._cache import Cache
    from helixflow._calls import Attempt

BASE_URL = "https://api.helixflow.com/v1"
TIMEOUT_S = 600.0
CONNECT_TIMEOUT_S = 5.0
MAX_RETRIES = 2
_USER_AGENT = f"helixflow-python/{__version__} (Python {sys.version.partition(' ')[0]})"


class Settings:
    """``headers`` holds the key, so nothing here is ever shown: there is no repr on purpose."""

    def __init__(
        self,
        *,
        api_key: str | None,
        base_url: str | None,
        timeout: float | None,
        connect_timeout: float,
        max_retries: int,
        default_headers: Mapping[str, str] | None,
        cache: Cache | None,
        on_attempt: Callable[[Attempt], object] | None,
    ) -> None:
        self.given: dict[str, Any] = {name: value for name, value in locals().items() if name != "self"}
        self.base_url = _base_url(base_url or os.environ.get("HELIXFLOW_BASE_URL") or BASE_URL)
        self.base_path = urlsplit(self.base_url).path
        self.api_key = _key(api_key if api_key is not None else os.environ.get("HELIXFLOW_API_KEY"))
        self.timeout = timeout
        self.connect_timeout = connect_timeout
        self.max_retries = max_retries
        self.cache = cache
        self.on_attempt = on_attempt
        self.headers = {
            "authorization": f"Bearer {self.api_key}",
            "accept": "application/json",
            "user-agent": _USER_AGENT,
            **{name.lower(): value for name, value in (default_headers or {}).items()},
        }

    def replaced(self, changes: Mapping[str, Any]) -> Settings:
        """A copy with other values, by the names of ``__init__``."""
        unknown = set(changes) - set(self.given)
        if unknown:
            raise TypeError(f"with_options() has no option {', '.join(sorted(unknown))}")
        return Settings(**{**self.given, **changes})


def _key(key: str | None) -> str:
    key = (key or "").strip()
    if not key:
        raise HelixFlowError("No API key: give api_key, or set the environment variable HELIXFLOW_API_KEY.")
    if not key.isascii() or not key.isprintable() or " " in key:
        # Said without the key: an error of the transport about the header would show it.
        raise HelixFlowError("The API key holds characters that no key has. Was more than the key copied?")
    return key


def _base_url(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or parts.query or parts.fragment or "@" in parts.netloc:
        raise HelixFlowError(f"The base URL must be like {BASE_URL}.")
    return url.strip().rstrip("/")
