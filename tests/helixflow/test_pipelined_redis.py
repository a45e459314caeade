"""Scripts over one pipelined connection: a server that hangs, lies, goes and comes back, and a loop that is late."""

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import hiredis
import pytest
import redis
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from helixflow.lib import pipelined_redis
from tests.cluster import running_server

HELD_UP_S = 0.45
ECHO = "return ARGV[1]"
LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


@asynccontextmanager
async def fake_server(answer: Callable[[list[bytes]], Awaitable[bytes]], tls: ssl.SSLContext | None = None):
    """Greets as Redis does; ``answer`` says the rest, and b"" says nothing."""

    async def serve(reader, writer):
        commands = hiredis.Reader()
        while data := await reader.read(65536):
            commands.feed(data)
            while command := commands.gets():
                writer.write(b"$9\r\nrun_id:ab\r\n" if command[0] == b"INFO" else await answer(command))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()


def always(reply: bytes):
    async def answer(command):
        return reply

    return answer


def test_calls_of_one_turn_get_their_own_answers():
    script = pipelined_redis.Script(ECHO)

    async def run():
        return await asyncio.gather(*(script.run(("k",), number) for number in range(100)))

    assert asyncio.run(run()) == [str(number).encode() for number in range(100)]


def test_a_script_is_sent_again_to_a_server_that_forgot_it(settings):
    script = pipelined_redis.Script(ECHO)

    async def run():
        await script.run(("k",), 1)
        redis.Redis.from_url(settings.REDIS_URL).script_flush()
        return await asyncio.gather(*(script.run(("k",), number) for number in (2, 3)))

    assert asyncio.run(run()) == [b"2", b"3"]


def test_a_caller_who_leaves_takes_no_answer_of_another():
    script = pipelined_redis.Script(ECHO)

    async def run():
        await script.run(("k",), 0)
        leaver = asyncio.create_task(script.run(("k",), "left"))
        await asyncio.sleep(0)
        leaver.cancel()
        return await script.run(("k",), "stayed")

    assert asyncio.run(run()) == b"stayed"


def test_the_script_s_own_error_is_a_response_error():
    with pytest.raises(redis.ResponseError, match="wrong thing"):
        asyncio.run(pipelined_redis.Script("return redis.error_reply('wrong thing')").run(("k",)))


@LOOPS
def test_a_server_that_does_not_answer_is_given_up_for_all_who_wait(settings, new_loop):
    settings.REDIS_BUDGET_S = 0.05

    async def run():
        async with fake_server(always(b"")) as settings.REDIS_URL:
            script = pipelined_redis.Script(ECHO)
            results = await asyncio.gather(*(script.run(("k",)) for _ in range(3)), return_exceptions=True)
            return [type(result) for result in results], pipelined_redis.run_ids()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(run()) == ([redis.TimeoutError] * 3, frozenset())


def test_who_waits_in_one_lane_takes_no_reply_of_another_along(settings):
    settings.REDIS_BUDGET_S = 0.05

    async def answer(command):
        return b"" if b"slow" in command else b"+quick\r\n"

    async def run():
        async with fake_server(answer) as settings.REDIS_URL:
            large = pipelined_redis.Script(ECHO, lane="large").run(("k",), "slow")
            return await asyncio.gather(large, pipelined_redis.Script(ECHO).run(("k",), ""), return_exceptions=True)

    given_up, answered = asyncio.run(run())
    assert (type(given_up), answered) == (redis.TimeoutError, b"quick")


def test_a_server_that_accepts_and_says_nothing_is_a_timeout(settings):
    settings.REDIS_BUDGET_S = 0.05
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.REDIS_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with pytest.raises(redis.TimeoutError):
            asyncio.run(pipelined_redis.Script(ECHO).run(("k",)))


def test_a_refused_connection_is_a_connection_error(settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    with pytest.raises(redis.ConnectionError, match="cannot be reached"):
        asyncio.run(pipelined_redis.Script(ECHO).run(("k",)))


@pytest.mark.parametrize("state", ["LOADING", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "OOM", "READONLY", "BUSY"])
def test_a_server_in_no_state_to_answer_is_like_none(settings, state):
    async def run():
        async with fake_server(always(f"-{state} not now\r\n".encode())) as settings.REDIS_URL:
            await pipelined_redis.Script(ECHO).run(("k",))

    with pytest.raises(redis.ConnectionError, match=state):
        asyncio.run(run())


def test_a_primary_that_became_a_replica_is_left_for_whom_its_name_leads_to(settings):
    answers = [b"-READONLY You can't write against a read only replica.\r\n", b":1\r\n"]

    async def answer(command):
        return answers.pop(0)

    async def run():
        async with fake_server(answer) as settings.REDIS_URL:
            script = pipelined_redis.Script(ECHO)
            with pytest.raises(redis.ConnectionError):
                await script.run(("k",))
            live = pipelined_redis.run_ids()
            return live, await script.run(("k",))

    assert asyncio.run(run()) == (frozenset(), 1)


def test_the_node_of_a_cluster_is_not_taken_for_a_server_of_its_own(settings):
    async def run():
        async with fake_server(always(b"-MOVED 3999 127.0.0.1:7001\r\n")) as settings.REDIS_URL:
            await pipelined_redis.Script(ECHO).run(("k",))

    with pytest.raises(redis.ConnectionError, match=r"redis\+cluster://"):
        asyncio.run(run())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Of 127.0.0.1, by itself. The file has the key too."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    made = builder.add_extension(addresses, critical=False).sign(key, hashes.SHA256())
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(made.public_bytes(Encoding.PEM) + private)
    return path


@LOOPS
def test_tls_trusts_the_authority_that_is_named_and_no_other(settings, certificate, new_loop):
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)

    async def run(query):
        async with fake_server(always(b":1\r\n"), tls) as url:
            settings.REDIS_URL = f"{url.replace('redis://', 'rediss://')}{query}"
            return await pipelined_redis.Script(ECHO).run(("k",))

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(run(f"?ssl_ca_certs={certificate}")) == 1
    with asyncio.Runner(loop_factory=new_loop) as runner, pytest.raises(redis.ConnectionError, match="certificate"):
        runner.run(run(""))


def test_what_is_not_redis_is_a_connection_error(settings):
    async def run():
        async with fake_server(always(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as settings.REDIS_URL:
            await pipelined_redis.Script(ECHO).run(("k",))

    with pytest.raises(redis.ConnectionError, match="protocol"):
        asyncio.run(run())


@LOOPS
@pytest.mark.parametrize("where", ["before the write", "after the write", "while polling"])
def test_an_answer_that_waited_for_a_late_loop_is_not_late(settings, new_loop, where):
    """The loop is held up for longer than the budget in three of its phases; the server answered long before."""
    settings.REDIS_BUDGET_S = 0.15
    script = pipelined_redis.Script(ECHO)

    async def run():
        loop = asyncio.get_running_loop()
        await script.run(("k",), "connected")
        ours, theirs = socket.socketpair()
        transport, _ = await loop.create_connection(Blocking, sock=ours)
        call = asyncio.create_task(script.run(("k",), "in time"))
        await asyncio.sleep(0)  # the command is issued
        if where == "before the write":
            time.sleep(HELD_UP_S)  # noqa: ASYNC251  # this is the test
        elif where == "after the write":
            await asyncio.sleep(0)
            time.sleep(HELD_UP_S)  # noqa: ASYNC251  # this too
        else:
            await asyncio.sleep(0)
            theirs.send(b"a large body")
        try:
            return await call
        finally:
            transport.close()
            theirs.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(run()) == b"in time"


class Blocking(asyncio.Protocol):
    """Another connection, whose data take long."""

    def data_received(self, data):
        time.sleep(HELD_UP_S)


@LOOPS
def test_a_loop_that_was_late_while_it_connected_connects_again(settings, new_loop):
    settings.REDIS_BUDGET_S = 0.1

    async def run():
        call = asyncio.create_task(pipelined_redis.Script(ECHO).run(("k",), "in time"))
        for _ in range(3):
            await asyncio.sleep(0)
        time.sleep(HELD_UP_S)  # noqa: ASYNC251  # this is the test
        return await call

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(run()) == b"in time"


def test_the_epoch_grows_with_another_server_and_not_with_another_connection(settings):
    script = pipelined_redis.Script(ECHO)

    async def until_it_answers():
        while True:
            try:
                return await script.run(("k",), "here")
            except redis.RedisError:
                await asyncio.sleep(0.01)

    async def run(server):
        settings.REDIS_URL = f"redis://127.0.0.1:{server.port}/0"
        seen = [(pipelined_redis.epoch(), len(pipelined_redis.run_ids()))]
        await until_it_answers()
        first = pipelined_redis.run_ids()
        seen.append((pipelined_redis.epoch(), len(first)))
        server.client.client_kill_filter(_type="normal", skipme=True)
        await until_it_answers()
        seen.append((pipelined_redis.epoch(), len(pipelined_redis.run_ids() & first)))
        server.kill()
        server.start()
        await until_it_answers()
        seen.append((pipelined_redis.epoch(), len(pipelined_redis.run_ids() - first)))
        return seen

    with running_server() as server:
        assert asyncio.run(run(server)) == [(0, 0), (0, 1), (0, 1), (1, 1)]
