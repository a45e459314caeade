"""Reads the clients' log and says what should not have been. One line per kind of problem, with the first example."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.fakes import answers
from tests.fakes.behaviours import LEAKY_ADDRESS, LEAKY_KEY
from tests.soak.clients import ONCE, Entry
from tests.soak.world import Tenant

STATUS_OF = {
    "invalid_request": {400, 404, 405, 413, 415},
    "authentication_failed": {401},
    "invalid_api_key": {401},
    "authorization_failed": {403},
    "model_not_found": {404},
    "rate_limit_exceeded": {429},
    "insufficient_quota": {429},
    "server_error": {500},
    "service_unavailable": {503},
    "timeout": {503},
}
# What an answer must never hold of the upstream's.
SECRET = [LEAKY_KEY, LEAKY_ADDRESS, answers.UPSTREAM_ID, answers.UPSTREAM_MODEL, "secret-path", "provider_trace"]
WAITING = {"rate_limit_exceeded", "service_unavailable"}  # they come with Retry-After


CUT = {"no answer at all", "the connection ended within an answer"}  # what a killed process leaves to its callers


def problems(log: list[Entry], *, killing: bool = False) -> list[str]:
    """Empty if every answer was one that its call may have. ``killing``: and processes may die under it."""
    found: Counter[str] = Counter()
    example: dict[str, str] = {}
    for entry in log:
        for problem in _of_entry(entry):
            if killing and problem in CUT:
                continue
            found[problem] += 1
            shown = (
                f"{entry.kind} {entry.model} stream={entry.stream}: {entry.answer.status} {entry.answer.body[-300:]!r}"
            )
            example.setdefault(problem, shown)
    bodies: dict[str, bytes] = {}
    for entry in log:
        answer = entry.answer
        if not (entry.user.startswith(ONCE) and answer.status == 200 and answer.complete):
            continue
        if bodies.setdefault(entry.user, answer.body) != answer.body:
            found["another answer under the same key"] += 1
    ids = Counter(entry.answer.headers["x-request-id"] for entry in log if "x-request-id" in entry.answer.headers)
    if ids and max(ids.values()) > 1:
        found["X-Request-ID given twice"] += 1
    return [f"{count} × {problem}. {example.get(problem, '')}" for problem, count in found.items()]


def _of_entry(entry: Entry) -> Iterator[str]:
    answer = entry.answer
    if not answer.status:
        if not answer.left:
            yield "no answer at all"
        return
    if not answer.headers.get("x-request-id", "").startswith("req_"):
        yield "no X-Request-ID"
    text = answer.body.decode(errors="replace")
    if any(secret in text for secret in SECRET):
        yield "something of the upstream's own leaked"
    if entry.tenant and "x-ratelimit-remaining" not in answer.headers:
        yield "no X-RateLimit headers on an answer to a key"
    if answer.left:
        return
    if not answer.complete:
        yield "the connection ended within an answer"
    elif answer.status == 200:
        yield from _of_success(entry)
    else:
        yield from _of_error(entry)


def _of_success(entry: Entry) -> Iterator[str]:
    if entry.kind in {"invalid", "stranger", "revoked"}:
        yield "200 for a call that must be refused"
    elif not entry.answer.is_stream:
        if entry.answer.json()["choices"][0]["message"]["content"] != answers.TEXT:
            yield "a wrong answer"
    else:
        payloads = entry.answer.payloads()
        done = bool(payloads) and payloads[-1] == "[DONE]"
        chunks = [json.loads(payload) for payload in payloads if payload != "[DONE]"]
        said = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ()))
        if done and said != answers.TEXT and entry.model != "only-done":
            yield "a stream that ends with [DONE] is not whole"
        if not done and "error" not in (chunks or [{}])[-1]:
            yield "a stream ended with neither [DONE] nor an error"
        if not done and entry.kind == "good":
            yield "a good stream failed"


def _of_error(entry: Entry) -> Iterator[str]:
    answer = entry.answer
    error = answer.json()["error"]
    code = error["code"]
    if answer.status not in STATUS_OF.get(code, ()):
        yield f"{answer.status} with code {code}"
    if error["request_id"] != answer.headers.get("x-request-id"):
        yield "the body's request_id is not the header's"
    if code in WAITING and not answer.headers.get("retry-after", "").isdigit():
        yield f"{code} without Retry-After"
    if code == "rate_limit_exceeded":
        return
    expected = {"good": set(), "invalid": {400, 413, 415}, "stranger": {401}, "revoked": {401}}.get(entry.kind)
    if expected is not None and answer.status not in expected:
        yield f"{answer.status} {code} for a {entry.kind} call"


def miscounts(log: list[Entry], tenants: list[Tenant]) -> list[str]:
    """Whether each minute was counted exactly: every admitted request got a number of its own, none above the limit.

    A number that nobody reported belongs to a client who left before it could read it.
    """
    found = []
    for tenant in tenants:
        mine = [entry for entry in log if entry.tenant == tenant.organization.name and not entry.answer.repeated]
        unread = sum(1 for entry in mine if not entry.answer.status)
        numbers: dict[str, list[int]] = defaultdict(list)
        for entry in mine:
            headers = entry.answer.headers
            if "x-ratelimit-remaining" in headers and entry.answer.status != 429:
                used = int(headers["x-ratelimit-limit"]) - int(headers["x-ratelimit-remaining"])
                numbers[headers["x-ratelimit-reset"]].append(used)
        missing = 0
        for minute, used_numbers in numbers.items():
            if len(set(used_numbers)) != len(used_numbers):
                found.append(f"{tenant.organization.name}: one number was given twice in the minute before {minute}")
            if max(used_numbers) > tenant.limit:
                found.append(f"{tenant.organization.name}: {max(used_numbers)} admitted at a limit of {tenant.limit}")
            missing += max(used_numbers) - len(set(used_numbers))
        if missing > unread:
            found.append(f"{tenant.organization.name}: {missing} units were counted for {unread} unread answers")
    return found
