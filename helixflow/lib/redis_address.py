"""What ``REDIS_URL`` says: one server, or a cluster by some of its nodes.

    redis://user:password@host:port/database            rediss:// with TLS
    redis+cluster://user:password@host:port,host:port   rediss+cluster:// with TLS

A cluster is named, not guessed: asking a server whether it belongs to one would make every start depend on it.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

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


def parse(url: str) -> Address:
    """Raises ImproperlyConfigured; the error does not repeat the value, which can hold a password."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ImproperlyConfigured(f"REDIS_URL must be a URL that starts with {', '.join(s + '://' for s in SCHEMES)}.")
    clustered = is_cluster(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    database = parts.path.strip("/") or "0"
    if not database.isdecimal():
        raise ImproperlyConfigured("REDIS_URL has a database that is not a number.")
    if clustered and database != "0":
        raise ImproperlyConfigured("REDIS_URL names a database, but a cluster has only database 0.")
    return Address(
        nodes=tuple(_node(host) for host in (hosts.split(",") if clustered else [hosts])),
        user=unquote(user),
        password=unquote(password),
        database=int(database),
        is_cluster=clustered,
        tls=parts.scheme.startswith("rediss"),
        ca_file=parse_qs(parts.query).get("ssl_ca_certs", [""])[0],
    )


def _node(text: str) -> Node:
    try:
        parts = urlsplit(f"//{text.strip()}")
        return parts.hostname or "127.0.0.1", parts.port or PORT
    except ValueError:
        raise ImproperlyConfigured("REDIS_URL has a port that is not a number.") from None
