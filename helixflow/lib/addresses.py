"""Which addresses HelixFlow may be sent to by people outside: what a URL may look like, and where it may lead.

A URL is taken apart once (``parse``), and an address is judged right before it is dialled (``judge``): a name can
change its mind in between. See docs/decisions/0013-calls-to-addresses-of-customers.md.
"""

import ipaddress
import re
import socket
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final
from urllib.parse import urlsplit

import requests
from django.conf import settings
from requests_hardened.ip_filter import InvalidIPAddress, filter_host

from helixflow.lib import lookups

LONGEST_URL: Final = 2000
PORTS: Final = (80, 443, 8080, 8443)
RESOLVE_S: Final = 3.0  # for one that waits for the form

# Beyond what ``ipaddress`` calls private and the library adds. Of IPv6 only 2000::/3 is given out to anybody.
_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")
_NOT_PUBLIC: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's own services, inside each virtual machine
        "192.88.99.0/24",  # 6to4 relays
        "2001::/23",  # protocols: Teredo (2001::/32) and ORCHID wrap or replace addresses
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4 wraps IPv4 addresses
        "3fff::/20",  # documentation
    )
)
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_AUTHORITY: Final = re.compile(r"(?i)(https?)://([^/?#]*)")


class Refused(Exception):
    """``message`` says to a developer what is wrong with the URL, and what to do."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


class Unresolvable(Refused):
    """The name leads nowhere, or nobody said where in time."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart. ``url`` is plain ASCII, ``host`` has no brackets, ``port`` is the scheme's unless given."""

    url: str
    scheme: str
    host: str
    port: int
    is_address: bool


def parse(url: str) -> Target:
    """Looks nothing up. Raises Refused."""
    return _parse(url, https_only=settings.PRODUCTION, any_port=settings.WEBHOOK_ALLOW_LOOPBACK)


@lru_cache(maxsize=4096)
def _parse(url: str, *, https_only: bool, any_port: bool) -> Target:
    scheme, authority = _refuse_bad_text(url)
    if https_only and scheme != "https":
        raise Refused("Use an https:// URL, so that nobody on the way can read the events.")
    if "@" in authority:
        raise Refused("Leave the user name and password out of the URL. Check the signature instead.")
    prepared = requests.PreparedRequest()
    try:
        prepared.prepare_url(url, None)  # international names and paths become ASCII
        parts = urlsplit(str(prepared.url))
        host, port = parts.hostname or "", urlsplit(url).port  # prepare_url() drops a port 0
    except (requests.RequestException, ValueError):
        raise Refused("This is not a valid URL. It should look like https://example.com/webhooks.") from None
    target = Target(
        url=parts.geturl(),
        scheme=scheme,
        host=host,
        port=port if port is not None else (443 if scheme == "https" else 80),
        is_address=_is_address(host),
    )
    if target.port not in PORTS and not any_port:  # of loopback; see judge()
        raise _bad_port()
    return target


def judge(address: str, *, port: int, host: str) -> str:
    """The address to dial, as text. Raises Refused unless it is public (or loopback, where a setting allows that)."""
    try:
        filter_host(address, port, allow_loopback=settings.WEBHOOK_ALLOW_LOOPBACK)  # looks nothing up: it is no name
    except InvalidIPAddress:
        raise inward(address, host) from None
    ip = _unmapped(address)
    if ip.is_loopback:  # the filter let it through, so it is allowed, and so is any port
        return str(ip)
    if not _is_public(ip):
        raise inward(address, host)
    if port not in PORTS:
        raise _bad_port()
    return str(ip)


def resolve(host: str, port: int, *, timeout_s: float) -> list[str]:
    """All addresses of a name, the one to dial first. Raises Unresolvable."""
    try:
        found = lookups.in_time(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), timeout_s)
    except OSError:  # TimeoutError is one too
        raise unresolvable(host) from None
    return [str(entry[4][0]) for entry in found]


def unresolvable(host: str) -> Unresolvable:
    return Unresolvable(f"The name {host} could not be resolved. Check its spelling and its DNS records.")


def inward(address: str, host: str) -> Refused:
    """Says nothing of the address that a name has led to: inside, that is nobody's business."""
    if _unmapped(address).is_loopback and not settings.PRODUCTION:
        return Refused(
            f"{host} is this machine. To send webhooks to it in development, set HELIXFLOW_WEBHOOK_ALLOW_LOOPBACK=true."
        )
    return Refused(f"{host} does not lead to a public address. Use one that can be reached from the internet.")


def _refuse_bad_text(url: str) -> tuple[str, str]:
    """Scheme and authority."""
    if len(url) > LONGEST_URL:
        raise Refused(f"The URL is too long: at most {LONGEST_URL} characters.")
    if not url.isprintable() or " " in url or "\\" in url:
        raise Refused("The URL holds spaces, backslashes or control characters. Percent-encode them.")
    match = _AUTHORITY.match(url)
    if match is None:
        raise Refused("Enter a whole URL that starts with https://.")
    scheme, authority = match[1].lower(), match[2]
    if "#" in url:
        raise Refused("Leave out the part after #: it is never sent to a server.")
    if "%" in authority:
        raise Refused("The host must be a plain name or address, without % in it.")
    return scheme, authority


def _is_address(host: str) -> bool:
    """Whether the host is an IP address and no name. Raises Refused if it is neither, or written oddly."""
    if ":" in host:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise Refused("This IPv6 address is not valid.") from None
        return True
    labels = host.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:  # 127.1, 0x7f000001, 2130706433, 017700000001: resolvers would read them as addresses
            raise Refused("Write an IPv4 address as four decimal numbers, such as 203.0.113.7.") from None
        return True
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise Refused("The host name is not valid.")
    return False


def _unmapped(address: str) -> IPv4Address | IPv6Address:
    """``::ffff:192.0.2.1`` is 192.0.2.1."""
    ip = ipaddress.ip_address(address)
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    if isinstance(ip, IPv6Address) and ip not in _GLOBAL_UNICAST:
        return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _NOT_PUBLIC)


def _bad_port() -> Refused:
    return Refused(f"Use one of the ports {', '.join(map(str, PORTS))}.")
