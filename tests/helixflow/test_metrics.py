"""Counts that add up over processes and outlive them, and who may read them."""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from billing import events
from helixflow.lib import metrics, redis
from helixflow.server import metrics as endpoint
from helixflow.server import metrics_directory
from inference import catalogue
from tests.helixflow.serving import Served, get, started, wait_for

Samples = dict[tuple[Any, ...], float]
LOCAL = [(b"host", b"127.0.0.1:8000")]
SUCCESS: dict[str, Any] = {
    "model": "small",
    "status": 200,
    "code": "",
    "streamed": True,
    "duration_ms": 40.0,
    "first_token_ms": 20.0,
    "tokens": (("input", 3), ("cached_input", 0), ("output", 5)),
}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    """As in a process that has just started."""
    start_over(monkeypatch)


def start_over(monkeypatch) -> None:
    monkeypatch.setattr(metrics, "_process", metrics._Process())


def samples(text: str, parse: Callable[[str], Any] = parse_text) -> Samples:
    """By name and labels: ``("helixflow_requests_total", ("model", "small"), …)``."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def scraped(accept: str = "") -> Samples:
    body, content_type = endpoint.exposition(accept)
    return samples(body.decode(), parse_openmetrics if "openmetrics" in content_type else parse_text)


def ask(*headers: tuple[bytes, bytes], peer: Any = ("127.0.0.1", 5), method: str = "GET", version: str = "1.1"):
    """Status, headers and body of one scrape."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "headers": list(headers), "client": peer, "http_version": version}
    asyncio.run(endpoint.answer(scope, None, send))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


# What is counted


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"])
def test_a_scrape_has_all_that_was_counted_in_the_format_that_was_asked_for(accept):
    metrics.observe(**SUCCESS)
    metrics.observe(**SUCCESS | {"duration_ms": 700_000.0, "first_token_ms": None, "streamed": False})
    metrics.observe(**SUCCESS | {"model": "", "status": 503, "code": "timeout", "tokens": ()})
    metrics.refused("minute")
    metrics.in_flight(3)
    metrics.in_flight(-1)
    metrics.set_gauges(settle_queue=7)
    metrics.set_gauges(spool_bytes=512, breaker_open=True)
    found = scraped(accept)
    small, nameless = ("model", "small"), ("model", "")
    assert found["helixflow_requests_total", ("code", ""), small, ("status", "200")] == 2
    assert found["helixflow_requests_total", ("code", "timeout"), nameless, ("status", "503")] == 1
    assert found["helixflow_tokens_total", ("class", "input"), small] == 6
    assert found["helixflow_tokens_total", ("class", "output"), small] == 10
    assert ("helixflow_tokens_total", ("class", "cached_input"), small) not in found
    duration = "helixflow_request_duration_seconds"
    streamed, whole = ("streamed", "true"), ("streamed", "false")
    assert found[f"{duration}_bucket", ("le", "0.025"), small, streamed] == 0
    assert found[f"{duration}_bucket", ("le", "0.05"), small, streamed] == 1
    assert found[f"{duration}_bucket", ("le", "600.0"), small, whole] == 0
    assert found[f"{duration}_bucket", ("le", "+Inf"), small, whole] == 1
    assert found[f"{duration}_sum", small, whole] == 700
    assert found["helixflow_time_to_first_token_seconds_count", small] == 1
    assert found["helixflow_time_to_first_token_seconds_sum", small] == 0.02
    assert found["helixflow_admission_refusals_total", ("reason", "minute")] == 1
    assert found["helixflow_requests_in_flight",] == 2
    assert found["helixflow_settle_queue_length",] == 7
    assert found["helixflow_spool_bytes",] == 512
    assert found["helixflow_redis_breaker_open",] == 1


def test_a_duration_on_the_edge_belongs_to_the_bucket_below():
    histogram = metrics.Histogram()
    for milliseconds in (5.0, 5.1, 0.0):
        histogram.add(milliseconds)
    assert histogram.counts[:2] == [2, 1]


def test_names_that_are_not_in_the_catalogue_are_counted_as_other(monkeypatch):
    model = catalogue.Model("small", "us", 0, None, ())
    monkeypatch.setattr(catalogue.keeper, "catalogue", catalogue.Catalogue({"small": model}))
    endpoint.label_models()
    for name in ("small", 'x"}\nhflow_secret 1', "gpt-99", ""):
        metrics.observe(**SUCCESS | {"model": name})
    counted = {model: count for (model, _, _), count in metrics.total().requests.items()}
    assert counted == {"small": 1, "other": 2, "": 1}
    assert {model for model, _ in metrics.total().tokens} == {"small", "other", ""}
    assert b"hflow_secret" not in endpoint.exposition("")[0]


def test_a_model_that_leaves_the_catalogue_keeps_its_name():
    offered = {"small"}
    metrics.name_models(lambda name: name in offered)
    metrics.observe(**SUCCESS)
    offered.clear()
    metrics.observe(**SUCCESS)
    assert metrics.total().requests == {("small", 200, ""): 2}


def test_there_are_never_more_names_than_can_be_held(monkeypatch):
    monkeypatch.setattr(metrics, "MAX_NAMES", 3)
    for number in range(5):
        metrics.observe(**SUCCESS | {"model": f"model-{number}"})
    assert {model for model, _, _ in metrics.total().requests} == {"model-0", "model-1", "model-2", "other"}


# Files


def test_processes_add_up_and_one_that_is_replaced_hands_on_its_counters_but_not_its_gauges(monkeypatch, tmp_path):
    for slot in ("0", "1"):
        start_over(monkeypatch)
        metrics.share(tmp_path / f"{slot}.counts")
        metrics.observe(**SUCCESS)
        metrics.refused("month")
        metrics.in_flight(4)
        metrics.fold()
    assert metrics.total().gauges.in_flight == 8
    start_over(monkeypatch)
    metrics.share(tmp_path / "0.counts")
    assert metrics.total().gauges.in_flight == 4
    metrics.observe(**SUCCESS)
    both = metrics.total()
    assert both.requests == {("small", 200, ""): 3}
    assert both.tokens == {("small", "input"): 9, ("small", "output"): 15}
    assert both.refusals == {"month": 2}
    assert both.durations["small", True].total_ms == 120
    assert sum(both.first_tokens["small"].counts) == 3
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0.counts", "1.counts"]


def test_what_cannot_be_written_is_said_once_and_is_there_when_it_can(tmp_path, caplog):
    folder = tmp_path / "gone"
    folder.mkdir()
    metrics.share(folder / "0.counts")
    metrics.observe(**SUCCESS)
    (folder / "0.counts").unlink()
    folder.rmdir()
    with caplog.at_level(logging.ERROR):
        metrics.fold()
        metrics.fold()
    assert caplog.text.count("metrics cannot be written") == 1
    folder.mkdir()
    assert metrics.total().requests == {("small", 200, ""): 1}


def test_a_file_that_makes_no_sense_costs_its_counts_and_nothing_else(tmp_path, caplog):
    (tmp_path / "0.counts").write_bytes(b"\x81\xa8requests\x07")
    metrics.share(tmp_path / "1.counts")
    metrics.observe(**SUCCESS)
    assert metrics.total().requests == {("small", 200, ""): 1}
    assert "lost" in caplog.text


def test_directories_that_nobody_holds_are_removed_and_others_are_not(tmp_path):
    (tmp_path / "web-dead").mkdir()
    (tmp_path / "web-dead" / "0.counts").write_bytes(b"")
    with metrics_directory.opened(tmp_path) as first, metrics_directory.opened(tmp_path) as second:
        assert {first.path, second.path} == set(tmp_path.iterdir())
        assert first.path != second.path
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_cannot_write_serves_with_its_own_counts(tmp_path, caplog):
    (tmp_path / "file").touch()
    with metrics_directory.opened(tmp_path / "file") as directory:
        directory.join(0)
        metrics.observe(**SUCCESS)
        assert metrics.total().requests == {("small", 200, ""): 1}
    assert "not shared" in caplog.text


# Processes


@contextmanager
def counting_server(folder: Path) -> Iterator[Served]:
    with started([sys.executable, "-m", "tests.helixflow.counting_app", str(folder)]) as served:
        yield served


def count_in_both(web: Served, *, without: int = 0) -> Counter[int]:
    """Requests on new connections until two workers have had some: how many each."""
    had: Counter[int] = Counter()

    def count() -> bool:
        had[int(web.get("/count").body)] += 1
        return len(had.keys() - {without}) == 2

    wait_for(count)
    return had


def scrape(web: Served) -> Samples:
    answer = web.ask(get("/metrics").replace(b"Host: x", b"Host: localhost"))
    assert answer.status == 200
    return samples(answer.body.decode())


REQUESTS = ("helixflow_requests_total", ("code", ""), ("model", ""), ("status", "200"))


def test_any_worker_answers_for_all_and_those_that_are_killed_still_count(tmp_path):
    with counting_server(tmp_path) as web:
        before = count_in_both(web)
        for _ in range(6):  # whoever gets it
            assert scrape(web)[REQUESTS] == before.total()
        killed = next(iter(before))
        os.kill(killed, signal.SIGKILL)
        assert scrape(web)[REQUESTS] == before.total()
        after = count_in_both(web, without=killed)
        assert killed not in after
        found = scrape(web)
        assert found[REQUESTS] == before.total() + after.total()
        assert found["helixflow_tokens_total", ("class", "output"), ("model", "")] == 5 * (before + after).total()
        assert found["helixflow_requests_in_flight",] == found[REQUESTS] - before[killed]
        (folder,) = tmp_path.iterdir()
        assert len(list(folder.iterdir())) == 2
        assert web.stop() == 0
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_server_left_is_removed_by_the_next(tmp_path):
    with counting_server(tmp_path) as web:
        (dead,) = tmp_path.iterdir()
        workers = count_in_both(web)
        web.process.kill()
        web.process.wait(5)
        wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
        assert dead.exists()
    with counting_server(tmp_path) as web:
        (alive,) = tmp_path.iterdir()
        assert alive != dead
        assert REQUESTS not in scrape(web)


# The usage streams


def add_event(organization: int, at_ms: int) -> None:
    tag = redis.SHARD_TAGS[organization]
    redis.sync_client().xadd(events.stream_key(tag), {"e": "secret-of-a-user"}, id=f"{at_ms}-1")


def test_the_streams_are_as_long_and_as_old_as_all_their_entries_together():
    now_ms = int(time.time() * 1000)
    add_event(3, now_ms - 90_000)
    add_event(3, now_ms - 10_000)
    add_event(15, now_ms - 30_000)
    found = scraped()
    assert found["helixflow_redis_up",] == 1
    assert found["helixflow_usage_stream_entries",] == 3
    assert 90 <= found["helixflow_usage_stream_lag_seconds",] < 120


def test_an_empty_stream_has_no_lag():
    found = scraped()
    assert found["helixflow_usage_stream_entries",] == 0
    assert found["helixflow_usage_stream_lag_seconds",] == 0


def test_without_redis_the_streams_are_unknown_and_the_rest_is_told(monkeypatch, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    monkeypatch.setattr(redis, "sync_client", redis.sync_client.__wrapped__)
    metrics.observe(**SUCCESS)
    found = scraped()
    assert found["helixflow_redis_up",] == 0
    assert not [name for name, *_ in found if "stream_" in name]
    assert found["helixflow_requests_total", ("code", ""), ("model", "small"), ("status", "200")] == 1


# Who may read them


def test_this_machine_may_read_without_a_token():
    status, headers, body = ask(*LOCAL)
    assert status == 200
    assert headers[b"content-type"].startswith(b"text/plain")
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"x-request-id"].startswith(b"req_")
    assert b"helixflow_build_info{" in body


@pytest.mark.parametrize("host", [b"localhost", b"[::1]:8000", b"127.1.2.3"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "127.8.8.8"])
def test_this_machine_has_several_addresses(host, peer):
    assert ask((b"host", host), peer=(peer, 5))[0] == 200


@pytest.mark.parametrize("peer", [("10.0.0.1", 5), ("2001:db8::1", 5), ("::ffff:10.0.0.1", 5), ("", 5), None])
def test_other_machines_find_nothing(peer):
    status, headers, body = ask(*LOCAL, peer=peer)
    assert status == 404
    error = json.loads(body)["error"]
    assert (error["code"], error["request_id"].encode()) == ("invalid_request", headers[b"x-request-id"])


@pytest.mark.parametrize(
    "header",
    [
        (b"x-forwarded-for", b"127.0.0.1"),
        (b"x-forwarded-proto", b"https"),
        (b"x-real-ip", b"127.0.0.1"),
        (b"forwarded", b"for=127.0.0.1"),
        (b"via", b"1.1 proxy"),
        (b"cf-connecting-ip", b"127.0.0.1"),
    ],
)
@pytest.mark.parametrize("proxies", [0, 1])
def test_a_proxy_on_this_machine_opens_nothing(settings, header, proxies):
    settings.TRUSTED_PROXIES = proxies
    assert ask(*LOCAL, header)[0] == 404


def test_a_proxy_that_adds_no_header_opens_nothing(settings):
    assert ask((b"host", b"api.example.com"))[0] == 404
    assert ask((b"host", b"[::1"))[0] == 404
    assert ask(*LOCAL, version="1.0")[0] == 404
    settings.PUBLIC_URL = "https://api.example.com"
    assert ask(*LOCAL)[0] == 404
    settings.TRUSTED_PROXIES = 1  # which adds the header, or it would not be trusted
    assert ask(*LOCAL)[0] == 200


TOKEN = "metrics-token-of-this-test"


@pytest.mark.parametrize("peer", [("10.0.0.1", 5), ("127.0.0.1", 5)])
def test_a_token_opens_them_to_everybody_who_has_it_and_to_nobody_else(settings, peer):
    settings.METRICS_TOKEN = TOKEN
    proxied = [(b"host", b"api.example.com"), (b"x-forwarded-for", b"10.1.1.1")]

    def status(*values: bytes):
        return ask(*proxied, *((b"authorization", value) for value in values), peer=peer)[0]

    assert status(f"Bearer {TOKEN}".encode()) == 200
    assert status(f"bearer {TOKEN}".encode()) == 200
    for refused in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer ", "", TOKEN, f"Basic {TOKEN}", "Bearer é"):
        assert status(refused.encode("latin-1")) == 401, refused
    assert status() == 401
    assert status(f"Bearer {TOKEN}".encode(), b"Bearer other") == 401
    _, headers, body = ask(*proxied, peer=peer)
    assert headers[b"www-authenticate"] == b"Bearer"
    assert json.loads(body)["error"]["code"] == "authentication_failed"
    assert TOKEN.encode() not in body
    assert TOKEN.encode() not in ask((b"authorization", f"Bearer {TOKEN}".encode()))[2]


def test_head_has_no_body_and_other_methods_are_refused():
    status, headers, body = ask(*LOCAL, method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers[b"content-length"]) > 0
    status, headers, body = ask(*LOCAL, method="POST")
    assert (status, headers[b"allow"]) == (405, b"GET, HEAD")
    assert json.loads(body)["error"]["code"] == "invalid_request"


def test_nothing_of_a_users_is_in_a_scrape():
    add_event(1, 1_700_000_000_000)
    assert b"secret-of-a-user" not in ask(*LOCAL)[2]
