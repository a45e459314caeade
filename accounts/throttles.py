"""How often one may try: per account (without regard to case) and per client address, web and API on one counter.

| policy         | per account  | per address  |
| -------------- | ------------ | ------------ |
| login          | 10 in 5 min  | 50 in 5 min  |
| registration   | 10 in 1 h    | 20 in 1 h    |
| password reset | 5 in 1 h     | 20 in 1 h    |
| verification   | 5 in 1 h     | 20 in 1 h    |
| confirmation   | 10 in 5 min  | 50 in 5 min  |
| invitation     | 30 in 1 h    | 100 in 1 h   |
| second step    | see below    | 50 in 5 min  |

The second step of a login waits per account by itself (``accounts.two_factor``), page and API on one counter.

Successes count like failures, and an account counts whether or not it exists. Over a limit: RateLimitExceeded with
Retry-After. The counters live in the cache; with the cache down its error passes through and becomes a 503
(``helixflow.middleware``, ``helixflow.lib.drf``): never unlimited.
"""

import ipaddress
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final

from django.http import HttpRequest
from django_ratelimit.core import get_usage
from rest_framework.request import Request

from accounts.models import User
from helixflow.lib.errors import RateLimitExceeded, ServiceUnavailable

MINUTES: Final = 60
HOURS: Final = 3600

View = Callable[..., Any]


@dataclass(frozen=True)
class Policy:
    """Rates are (count, seconds). ``field`` of the form or body names the account; None: whoever is logged in."""

    name: str
    field: str | None
    per_account: tuple[int, int]
    per_address: tuple[int, int]


INVITATION: Final = Policy("invitation", None, (30, HOURS), (100, HOURS))
LOGIN: Final = Policy("login", "username", (10, 5 * MINUTES), (50, 5 * MINUTES))
REGISTRATION: Final = Policy("registration", "email", (10, HOURS), (20, HOURS))
PASSWORD_RESET: Final = Policy("password reset", "email", (5, HOURS), (20, HOURS))
VERIFICATION: Final = Policy("verification", None, (5, HOURS), (20, HOURS))
# The current password, asked again before it or the e-mail address changes.
CONFIRMATION: Final = Policy("confirmation", None, (10, 5 * MINUTES), (50, 5 * MINUTES))

# Of nobody who is logged in yet, so by address alone; each account has its own wait besides.
SECOND_STEP: Final = Policy("second step", None, (10, 5 * MINUTES), (50, 5 * MINUTES))


def throttled(policy: Policy) -> Callable[[View], View]:
    """Counts each POST before the view, a Django one or (below ``api_view``) a DRF one, does anything."""

    def decorate(view: View) -> View:
        @wraps(view)
        def limited(request: HttpRequest | Request, *args: Any, **kwargs: Any) -> Any:
            if request.method == "POST":
                _count(request, f"{policy.name} address", _address(request), policy.per_address)
                account = _account(request, policy.field)
                if account:
                    _count(request, f"{policy.name} account", account, policy.per_account)
            return view(request, *args, **kwargs)

        return limited

    return decorate


def _count(request: HttpRequest | Request, group: str, value: str, rate: tuple[int, int]) -> None:
    usage = get_usage(
        request, group=group, key=lambda _group, _request: value, rate=rate, method="POST", increment=True
    )
    if usage is None or usage["limit"] == 0:  # django-ratelimit's word for a counter it could not read
        raise ServiceUnavailable(retry_after=5)
    if usage["should_limit"]:
        wait = max(1, usage["time_left"])
        raise RateLimitExceeded(f"Too many attempts. Try again in {_in_words(wait)}.", retry_after=wait)


def _account(request: HttpRequest | Request, field: str | None) -> str:
    if field is None:
        return str(request.user.pk) if isinstance(request.user, User) else ""
    data = request.data if isinstance(request, Request) else request.POST
    value = data.get(field) if isinstance(data, dict) else None
    return _same_for_all_spellings(value) if isinstance(value, str) else ""


def _same_for_all_spellings(name: str) -> str:
    """At least as coarse as any look-up of accounts, or another spelling would be another counter.

    Look-ups compare UPPER(), for which a dotless i is an i; the admin's form also makes wide letters plain (NFKC).
    """
    return unicodedata.normalize("NFKC", name).strip().upper().casefold()


def _address(request: HttpRequest | Request) -> str:
    """IPv6 by /64, which is what one customer has. What is no address (a Unix socket) shares one counter."""
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped or ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _in_words(seconds: int) -> str:
    if seconds < 2 * MINUTES:
        return f"{seconds} seconds"
    return f"{-(-seconds // MINUTES)} minutes"
