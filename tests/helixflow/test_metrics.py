"""Counts that add up over processes and outlive them."""

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
from redis import Redis

from accounts import api_keys
from billing.admission import redis_keys
from helixflow.lib import metrics, redis
from helixflow.server import metrics as endpoint
from helixflow.server import metrics_directory
from inference import catalogue
from tests.factories import MODEL, deploy
from tests.helixflow.serving import Served, get, post, started, wait_for

Samples = dict[tuple[Any, ...], float]
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
        assert {first.path, second.path} == set(tmp_path.glob("web-*"))
        assert first.path != second.path
    assert list(tmp_path.glob("web-*")) == []


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
    return samples(metrics_of(web))


def metrics_of(web: Served) -> str:
    answer = web.ask(get("/metrics").replace(b"Host: x", b"Host: localhost"))
    assert answer.status == 200
    return answer.body.decode()


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
        (folder,) = tmp_path.glob("web-*")
        assert len(list(folder.glob("*.counts"))) == 2
        assert web.stop() == 0
    assert list(tmp_path.glob("web-*")) == []


def test_what_a_killed_server_left_is_removed_by_the_next(tmp_path):
    with counting_server(tmp_path) as web:
        (dead,) = tmp_path.glob("web-*")
        workers = count_in_both(web)
        web.process.kill()
        web.process.wait(5)
        wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
        assert dead.exists()
    with counting_server(tmp_path) as web:
        (alive,) = tmp_path.glob("web-*")
        assert alive != dead
        assert REQUESTS not in scrape(web)


# The usage streams


def add_event(shard: int, at_ms: int) -> None:
    tag = redis.SHARD_TAGS[shard]
    redis.sync_client().xadd(redis_keys.usage_stream(tag), {"e": "anything"}, id=f"{at_ms}-1")


def test_the_streams_are_as_long_and_as_old_as_all_their_entries_together():
    now_ms = int(time.time() * 1000)
    add_event(3, now_ms - 90_000)
    add_event(3, now_ms - 10_000)
    add_event(15, now_ms - 30_000)
    found = scraped()
    assert found["helixflow_redis_up",] == 1
    assert found["helixflow_usage_stream_entries",] == 3
    assert 90 <= found["helixflow_usage_stream_lag_seconds",] < 120


def test_the_streams_of_a_cluster_are_asked_for_on_all_its_servers(on_cluster):
    for shard, tag in enumerate(redis.SHARD_TAGS):
        add_event(shard, int(time.time() * 1000) - 60_000)
        assert on_cluster.owner(tag).client.exists(redis_keys.usage_stream(tag))
    found = scraped()
    assert found["helixflow_usage_stream_entries",] == redis.SHARDS
    assert found["helixflow_usage_stream_lag_seconds",] >= 60


def test_an_empty_stream_has_no_lag():
    found = scraped()
    assert found["helixflow_usage_stream_entries",] == 0
    assert found["helixflow_usage_stream_lag_seconds",] == 0


def test_without_redis_the_streams_are_unknown_and_the_rest_is_told(monkeypatch):
    monkeypatch.setattr(redis, "sync_client", lambda: Redis(port=1))
    metrics.observe(**SUCCESS)
    found = scraped()
    assert found["helixflow_redis_up",] == 0
    assert not [name for name, *_ in found if "stream_" in name]
    assert found["helixflow_requests_total", ("code", ""), ("model", "small"), ("status", "200")] == 1


# The gateway


def test_what_the_gateway_did_is_counted_and_nothing_a_caller_wrote_is_shown(
    stores, upstream, transactional_db, organization, owner
):
    deploy(upstream)
    token = api_keys.create(organization=organization, user=owner, name="test")[1]

    def complete(web: Served, model: str, *, stream: bool = False) -> int:
        body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "marker-1"}]}
        body |= {"user": "marker-2"}
        headers = (f"Authorization: Bearer {token}", "Content-Type: application/json")
        return web.ask(post("/v1/chat/completions", json.dumps(body).encode(), *headers)).status

    with started([sys.executable, "manage.py", "web", "--workers", "2", "--port", "0"], stores) as web:
        assert [complete(web, MODEL), complete(web, MODEL), complete(web, MODEL, stream=True)] == [200] * 3
        assert complete(web, "marker-3") == 404
        model = ("model", MODEL)
        success = ("helixflow_requests_total", ("code", ""), model, ("status", "200"))
        unknown = ("helixflow_requests_total", ("code", "model_not_found"), ("model", ""), ("status", "404"))
        wait_for(lambda: scrape(web).get(success) == 3 and scrape(web).get(unknown) == 1)
        found = scrape(web)
        assert found["helixflow_request_duration_seconds_count", model, ("streamed", "false")] == 2
        assert found["helixflow_time_to_first_token_seconds_count", model] >= 1
        assert found["helixflow_tokens_total", ("class", "output"), model] > 0
        assert found["helixflow_requests_in_flight",] == 0
        text = metrics_of(web)
        for private in ("marker", "hflow_", "sk-provider", "example.com", str(organization.id), organization.id.hex):
            assert private not in text
