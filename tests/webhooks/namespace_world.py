"""Run by ``test_namespace`` as a program, in a network namespace of its own: private and public addresses that are all
on this machine, a listener on each, and a counter of the packets sent to any of them. Prints what came of each trick.

    DJANGO_SETTINGS_MODULE=helixflow.settings unshare -rn python -m tests.webhooks.namespace_world
"""

import contextlib
import itertools
import json
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import django
import requests
from django.test import override_settings

from helixflow.lib import http
from helixflow.lib.errors import InvalidRequest
from tests.fakes.receiver import Behaviour, Call, Receiver, redirect, status
from tests.requirements import require_program

METADATA: Final = "169.254.169.254"
PRIVATE: Final = [METADATA, "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "168.63.129.16"]
PRIVATE_IPV6: Final = ["fd00::1", "fec0::1", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "2001:0:1::1"]
LOOPBACK: Final = ["127.0.0.1", "::1"]
PUBLIC: Final = "93.184.216.34"
PORTS: Final = (80, 8080)
REDIRECTS: Final = (301, 302, 303, 307, 308)
LURES: Final = (METADATA, "10.1.2.3:8080", "[fd00::1]", "[::ffff:169.254.169.254]", "0xa9fea9fe", "chain")

LITERALS: Final = [
    *PRIVATE,
    *(f"[{address}]" for address in PRIVATE_IPV6),
    *("169.254.43518", "0xa9fea9fe", "0xa9.0xfe.0xa9.0xfe", "0251.0376.0251.0376", "2852039166", "10.1.515"),
    *(
        "[::ffff:169.254.169.254]",
        "[fe80::1]",
        "[::ffff:a9fe:a9fe]",
        "[::169.254.169.254]",
        "[::ffff:0:169.254.169.254]",
    ),
    *("[fe80::1%25lo]", "[fe80::1%lo]", "169.254.169.254.", "\uff11\uff16\uff19.254.169.254", "169。254。169。254"),
    *("93.184.216.34@169.254.169.254", "169.254.169.254#@93.184.216.34", "169.254.169.254\\@93.184.216.34"),
    *("%31%36%39.254.169.254", "[::ffff:10.1.2.3]", "[::]", "0", "0.0.0.0"),
]
LOOPBACK_LITERALS: Final = [
    *("127.0.0.1", "127.1", "0x7f000001", "0x7f.1", "017700000001", "2130706433", "127.0.0.2", "127.255.255.254"),
    *("[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]"),
]


class Counting:
    """Counts TCP and UDP packets by destination, from the link itself: nothing is sent that it does not see."""

    def __init__(self) -> None:
        everything = socket.htons(3)  # ETH_P_ALL
        self._link = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, everything)
        self._link.bind(("lo", 3))
        self._link.settimeout(0.2)
        self._seen: Counter[str] = Counter()
        self._marks = 0
        threading.Thread(target=self._count, daemon=True).start()

    def seen(self) -> Counter[str]:
        """All that was sent until now: a packet of our own shows that those before it have been counted."""
        before = self._marks
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mark:
            while self._marks == before:
                mark.sendto(b"mark", ("127.9.9.9", 9))
                time.sleep(0.02)
        return Counter(self._seen)

    def _count(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                self._note(self._link.recv(65536))

    def _note(self, packet: bytes) -> None:
        if packet[0] >> 4 == 4:
            protocol, destination = packet[9], socket.inet_ntop(socket.AF_INET, packet[16:20])
        else:
            protocol, destination = packet[6], socket.inet_ntop(socket.AF_INET6, packet[24:40])
        if destination == "127.9.9.9":
            self._marks += 1
        elif protocol in {socket.IPPROTO_TCP, socket.IPPROTO_UDP}:
            self._seen[destination] += 1


class Names:
    """Stands in for the resolver: each look-up of a name gets the next of its answers, the last one for ever.

    What is no name but a number, however written, is read by the real one. Other names are asked of nobody.
    """

    def __init__(self) -> None:
        self._answers: dict[str, Iterator[Sequence[str]]] = {}
        self._real = socket.getaddrinfo
        socket.getaddrinfo = self._getaddrinfo  # for the whole program

    def set(self, name: str, *answers: Sequence[str]) -> None:
        self._answers[name] = itertools.chain(answers, itertools.repeat(answers[-1]))

    def known(self) -> list[str]:
        return list(self._answers)

    def _getaddrinfo(self, host: Any, port: Any, *args: Any, **options: Any) -> list[Any]:
        found = next(self._answers[host]) if host in self._answers else [host]
        numeric = socket.AI_NUMERICHOST
        return [entry for each in found for entry in self._real(each, port, type=socket.SOCK_STREAM, flags=numeric)]


def check(url: str) -> str:
    try:
        http.check_url(url)
    except InvalidRequest:
        return "refused"
    return "fine"


def post(url: str) -> str:
    try:
        return str(http.post(url, body=b"{}", headers={}, timeout_s=5, read_bytes=1000).status)
    except http.CallFailed as failed:
        return failed.code


def both(url: str) -> list[str]:
    """What the form and the call say of it."""
    return [check(url), post(url)]


def literals(hosts: Sequence[str]) -> dict[str, list[str]]:
    return {url: both(url) for host in hosts for url in (f"http://{host}/latest", f"http://{host}:8080/latest")}


def redirects(base: str) -> dict[str, list[str]]:
    """By each status, directly and in a chain."""
    return {url: both(url) for code in REDIRECTS for to in LURES for url in [f"{base}/{code}/{to}"]}


def answer(call: Call) -> Behaviour:
    """Of the receivers whose address is allowed."""
    parts = call.path.split("/")
    if len(parts) != 3 or not parts[1].isdigit():
        return status(200)
    code, to = int(parts[1]), parts[2]
    return redirect(f"/{code}/{METADATA}" if to == "chain" else f"http://{to}/latest/meta-data", code)


def rebinding(names: Names, good: str) -> dict[str, list[str]]:
    """Names that lead to ``good``, inwards, or first to one and then to the other."""
    names.set("always-inwards.example", [METADATA])
    names.set("mapped.example", [f"::ffff:{METADATA}"])
    names.set("ipv6.example", ["fd00::1"])
    names.set("between-form-and-call.example", [good], [METADATA])
    names.set("within-the-call.example", [good], [good], [METADATA])
    names.set("good-first.example", [good, METADATA])
    names.set("inwards-first.example", [METADATA, good])
    names.set("flipping.example", *[[good], [METADATA]] * 20)
    said = {url: both(url) for name in names.known() for url in [f"http://{name}/"]}
    said |= {f"flipping {number}": [post("http://flipping.example/")] for number in range(20)}
    # Nothing listens on 8443: a client that tries the next address would go inwards.
    return said | {"nothing at the first": [post("http://good-first.example:8443/")]}


def set_up() -> None:
    """Raises CalledProcessError where the namespace can't have such addresses."""
    commands = [f"addr add {address}/32 dev lo" for address in [*PRIVATE, PUBLIC]]
    commands += [f"-6 addr add {address}/128 dev lo nodad" for address in PRIVATE_IPV6]
    for command in ["link set lo up", *commands]:
        subprocess.run([require_program("ip"), *command.split()], check=True)


def controls(listeners: Sequence[Receiver], counting: Counting) -> dict[str, int]:
    """The same lures with a plain client, which does go inwards: the fewest that any listener has seen."""
    before = [listener.accepted for listener in listeners]
    requests.post(f"http://{PUBLIC}/307/{METADATA}", timeout=5)
    followed = listeners[0].accepted - before[0]
    for listener in listeners:
        requests.post(listener.url, timeout=5)
    seen = counting.seen()
    return {
        "followed_redirects": followed,
        "connections": min(listener.accepted - old for listener, old in zip(listeners, before, strict=True)),
        "packets": min(seen[listener.host] for listener in listeners),
    }


def main() -> None:
    django.setup()
    set_up()
    names = Names()
    inside = [Receiver(host=host, port=port) for host in (*PRIVATE, *PRIVATE_IPV6) for port in PORTS]
    allowed = [Receiver(host=host, port=port) for host in (PUBLIC, *LOOPBACK) for port in PORTS]
    with contextlib.ExitStack() as stack:
        for receiver in inside + allowed:
            stack.enter_context(receiver)
            receiver.answer = answer
        counting = Counting()
        with override_settings(WEBHOOK_ALLOW_LOOPBACK=False):
            closed = literals(LITERALS + LOOPBACK_LITERALS) | rebinding(names, PUBLIC)
            closed_redirects = redirects(f"http://{PUBLIC}")
            closed_packets = counting.seen()
        with override_settings(WEBHOOK_ALLOW_LOOPBACK=True):
            opened = literals(LITERALS) | rebinding(names, "127.0.0.1")
            opened_redirects = redirects("http://127.0.0.1")
            opened_packets = counting.seen()
        reached = {receiver.url: receiver.accepted for receiver in inside if receiver.accepted}
        print(
            json.dumps(
                {
                    "closed": closed,
                    "closed_redirects": closed_redirects,
                    "closed_packets": closed_packets,
                    "opened": opened,
                    "opened_redirects": opened_redirects,
                    "opened_packets": opened_packets,
                    "reached": reached,
                    "controls": controls(inside, counting),
                }
            )
        )


if __name__ == "__main__":
    main()
