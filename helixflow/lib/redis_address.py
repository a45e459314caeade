"""What ``REDIS_URL`` says: one server, or a cluster by some of its nodes.

    redis://user:password@host:port/database            rediss:// with TLS
    redis+cluster://user:password@host:port,host:port   rediss+cluster:// with TLS

A cluster is named, not guessed: asking a server whether it belongs to one would make every start depend on it.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

from django.core.exceptions import ImproperlyConfigured

SCHEMES: Final = ("redis", "rediss", "redis+cluster", "rediss+cluster")
PORT: Final = 6379

Node = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Address:
    """``nodes`` of one server is that server. ``ca_file`` empty: the certificates that the system trusts."""

    nodes: tuple[Node, ...]
    user: str
    password: str
    database: int
    is_cluster: bool
    tls: bool
    ca_file: str


def is_cluster(url: str) -> bool:
    return urlsplit(url).scheme.endswith("+cluster")


def servers(url: str) -> list[str]:
    """The address itself, or one of each node: for what can use several servers and knows no clusters."""
    if not is_cluster(url):
        return [url]
    parts = urlsplit(url)
    credentials, at, hosts = parts.netloc.rpartition("@")
    scheme = parts.scheme.removesuffix("+cluster")
    return [
        urlunsplit((scheme, f"{credentials}{at}{host.strip()}", "/0", parts.query, "")) for host in hosts.split(",")
    ]


def parse(url: str, name: str = "REDIS_URL") -> Address:
    """Raises ImproperlyConfigured; the error does not repeat the value, which can hold a password."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ImproperlyConfigured(f"{name} must be a URL that starts with {' or '.join(s + '://' for s in SCHEMES)}.")
    clustered = is_cluster(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    database = parts.path.strip("/") or "0"
    if not database.isdecimal():
        raise ImproperlyConfigured(f"{name} has a database that is not a number.")
    if clustered and database != "0":
        raise ImproperlyConfigured(f"{name} names a database, but a cluster has only database 0.")
    return Address(
        nodes=tuple(_node(host, name) for host in (hosts.split(",") if clustered else [hosts])),
        user=unquote(user),
        password=unquote(password),
        database=int(database),
        is_cluster=clustered,
        tls=parts.scheme.startswith("rediss"),
        ca_file=parse_qs(parts.query).get("ssl_ca_certs", [""])[0],
    )


def _node(text: str, name: str) -> Node:
    try:
        parts = urlsplit(f"//{text.strip()}")
        return parts.hostname or "127.0.0.1", parts.port or PORT
    except ValueError:
        raise ImproperlyConfigured(f"{name} has a port that is not a number.") from None
