"""`/metrics` for Prometheus, as plain ASGI: the counts of all processes, and what waits in Redis and PostgreSQL.

With HELIXFLOW_METRICS_TOKEN whoever has it is answered; without, only this machine, and no proxy on it. docs/metrics.md
lists the metrics.
"""

import asyncio
import hmac
import ipaddress
import platform
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from accounts import auth
from billing.admission import redis_keys
from helixflow.lib import errors, ids, metrics, redis
from helixflow.server import metrics_webhooks
from helixflow.server.cycle import render
from inference import catalogue

# What proxies add. One on this machine makes the whole world look like a neighbour.
FORWARDED: Final = (b"forwarded", b"via", b"x-forwarded", b"x-real-ip", b"x-client-ip", b"true-client-ip", b"cf-")
BOUNDS: Final = [*(str(bound / 1000) for bound in metrics.BUCKETS_MS), "+Inf"]

_thread = ThreadPoolExecutor(1, "metrics")  # files and servers are waited for, never on the event loop


def label_models() -> None:
    """Only names of the catalogue become labels; what a caller makes up is counted as "other"."""

    def known(name: str) -> bool:
        current = catalogue.keeper.catalogue
        return current is not None and name in current.models

    metrics.name_models(known)


async def answer(scope: Any, receive: Any, send: Any) -> None:
    headers = scope["headers"]
    try:
        _check_caller(scope)
        if scope["method"] not in {"GET", "HEAD"}:
            raise errors.MethodNotAllowed(allowed=("GET", "HEAD"))
    except errors.HelixError as error:
        status = error.status
        answer_headers, body = render(error)
    else:
        status = 200
        accept = b",".join(value for name, value in headers if name == b"accept").decode("latin-1")
        body, content_type = await asyncio.get_running_loop().run_in_executor(_thread, exposition, accept)
        answer_headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"x-request-id", ids.new_id(ids.REQUEST).encode()),
        ]
    await send({"type": "http.response.start", "status": status, "headers": answer_headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _check_caller(scope: Any) -> None:
    """Raises AuthenticationFailed where a token is asked for, else NotFound: nobody need know that metrics are here."""
    if settings.METRICS_TOKEN:
        values = [value for name, value in scope["headers"] if name == b"authorization"]
        token = auth.bearer_token(values, credential="METRICS_TOKEN")
        if not hmac.compare_digest(token.encode(), settings.METRICS_TOKEN.encode()):
            raise errors.AuthenticationFailed("This is not the token of the metrics.")
    elif not _is_local(scope):
        raise errors.NotFound


def _is_local(scope: Any) -> bool:
    """On this machine, and by all signs not for somebody elsewhere.

    Headers alone don't tell: nginx adds none unless it is told to, but speaks HTTP/1.0 then. And a proxy nobody
    declared is assumed where the public address is not this machine's.
    """
    peer = scope["client"]
    if peer is None or not _is_loopback(peer[0]) or scope["http_version"] == "1.0":
        return False
    for name, value in scope["headers"]:
        if name.startswith(FORWARDED) or (name == b"host" and not _names_loopback(f"//{value.decode('latin-1')}")):
            return False
    return settings.TRUSTED_PROXIES > 0 or _names_loopback(settings.PUBLIC_URL)


def _names_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return host == "localhost" or _is_loopback(host)


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)  # how a socket that takes both kinds shows IPv4
    return (mapped or parsed).is_loopback


def exposition(accept: str) -> tuple[bytes, str]:
    """What a scrape gets, and its content type. Waits for files, Redis and PostgreSQL."""
    encoder, content_type = choose_encoder(accept)
    return encoder(_Everything()), content_type


class _Everything(Collector):
    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily(
            "helixflow_build", "What runs.", {"version": settings.VERSION, "python": platform.python_version()}
        )
        counts = metrics.total()
        yield from _counters(counts)
        yield from _histograms(counts)
        yield from _upstreams(counts)
        yield from _gauges(counts.gauges)
        yield from _streams()
        yield from metrics_webhooks.collect()


def _counters(counts: metrics.Counts) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "helixflow_requests",
        "Admitted requests that ended; code is empty for successes.",
        labels=("model", "status", "code"),
    )
    for (model, status, code), count in counts.requests.items():
        requests.add_metric((model, str(status), code), count)
    yield requests
    tokens = CounterMetricFamily("helixflow_tokens", "Tokens of settled requests.", labels=("model", "class"))
    for labels, count in counts.tokens.items():
        tokens.add_metric(labels, count)
    yield tokens
    refusals = CounterMetricFamily(
        "helixflow_admission_refusals", "Requests that admission refused.", labels=("reason",)
    )
    for reason, count in counts.refusals.items():
        refusals.add_metric((reason,), count)
    yield refusals
    dropped = CounterMetricFamily("helixflow_contents_dropped", "Contents to be stored that found no room or no way.")
    dropped.add_metric((), counts.contents_dropped)
    yield dropped


def _histograms(counts: metrics.Counts) -> Iterator[Metric]:
    durations = HistogramMetricFamily(
        "helixflow_request_duration_seconds", "From arrival to the end of the answer.", labels=("model", "streamed")
    )
    for (model, streamed), histogram in counts.durations.items():
        _add(durations, (model, "true" if streamed else "false"), histogram)
    yield durations
    first_tokens = HistogramMetricFamily(
        "helixflow_time_to_first_token_seconds", "From arrival to the first token.", labels=("model",)
    )
    for model, histogram in counts.first_tokens.items():
        _add(first_tokens, (model,), histogram)
    yield first_tokens


def _upstreams(counts: metrics.Counts) -> Iterator[Metric]:
    labels = ("model", "deployment")
    attempts = CounterMetricFamily(
        "helixflow_upstream_attempts", "Attempts at deployments by how they ended.", labels=(*labels, "outcome")
    )
    latencies = HistogramMetricFamily(
        "helixflow_upstream_latency_seconds", "To a stream's first token, or a whole answer's end.", labels=labels
    )
    available = GaugeMetricFamily(
        "helixflow_deployment_available", "0 while a deployment is cut off in any process.", labels=labels
    )
    current = catalogue.keeper.catalogue
    models = current.models.values() if current else ()
    offered = {(model.name, each.name) for model in models for each in model.deployments}
    for names, upstream in counts.upstreams.items():
        for outcome in ("answered", "failed", "limited", "left"):
            attempts.add_metric((*names, outcome), getattr(upstream, outcome))
        _add(latencies, names, upstream.latency)
        if names in offered:
            available.add_metric(names, 1 - upstream.cut_off)
    retries = CounterMetricFamily("helixflow_upstream_retries", "Attempts beyond a request's first.", labels=("model",))
    refused = CounterMetricFamily(
        "helixflow_retry_budget_exhausted", "Retries that their budget did not allow.", labels=("model",)
    )
    for model, made in counts.retries.items():
        retries.add_metric((model,), made.made)
        refused.add_metric((model,), made.refused)
    yield from (attempts, latencies, available, retries, refused)


def _add(family: HistogramMetricFamily, labels: Iterable[str], histogram: metrics.Histogram) -> None:
    buckets = list(zip(BOUNDS, accumulate(histogram.counts), strict=True))
    family.add_metric(list(labels), buckets, histogram.total_ms / 1000)


def _gauges(gauges: metrics.Gauges) -> Iterator[Metric]:
    yield GaugeMetricFamily("helixflow_requests_in_flight", "Requests being answered.", gauges.in_flight)
    yield GaugeMetricFamily(
        "helixflow_settle_queue_length", "Answered requests that Redis does not know yet.", gauges.settle_queue
    )
    yield GaugeMetricFamily("helixflow_spool_bytes", "Written to disk while Redis was away.", gauges.spool_bytes)
    yield GaugeMetricFamily(
        "helixflow_redis_breaker_open", "Processes that do without Redis at the moment.", gauges.breaker_open
    )


def _streams() -> Iterator[Metric]:
    """What the meter has yet to write. It deletes what it has written, so an entry that is there waits for it."""
    up = GaugeMetricFamily("helixflow_redis_up", "Whether Redis answered this scrape.")
    waiting = 0
    oldest_ms: list[int] = []
    try:
        client = redis.sync_client()
        for tag in redis.SHARD_TAGS:  # one by one: the shards of a cluster lie on several servers
            stream = redis_keys.usage_stream(tag)
            if length := client.xlen(stream):
                waiting += length
                first: Any = client.xrange(stream, count=1)  # its stub allows for every option at once
                oldest_ms += [int(entry.split(b"-")[0]) for entry, _ in first]
    except redis.RedisError:
        up.add_metric((), 0)
        yield up
        return
    up.add_metric((), 1)
    yield up
    lag = max(0.0, time.time() - min(oldest_ms) / 1000) if oldest_ms else 0
    yield GaugeMetricFamily(
        "helixflow_usage_stream_entries", "Usage events that the meter has not written yet.", waiting
    )
    yield GaugeMetricFamily("helixflow_usage_stream_lag_seconds", "Age of the oldest of them.", lag)
