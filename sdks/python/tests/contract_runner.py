"""Runs sdks/contract with this package, sync and async: `python contract_runner.py`.

The server's address comes from HELIXFLOW_CONTRACT_URL, names of cases from the command line (all without any). Prints a
line for each case that failed and why, and ends with 1 if there was one.
"""

import asyncio
import json
import os
import re
import sys
import traceback
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import helixflow

CONTRACT = Path(__file__).resolve().parents[2] / "contract"
KEY = "hflow_contract_key_that_opens_nothing"


def expand(value):
    """``{"$repeat": n, "each": …}`` as the list it stands for."""
    if isinstance(value, dict):
        if "$repeat" in value:
            first = value.get("from", 1)
            return [numbered(value["each"], number) for number in range(first, first + value["$repeat"])]
        return {name: expand(inner) for name, inner in value.items()}
    return [expand(inner) for inner in value] if isinstance(value, list) else value


def numbered(value, number):
    if isinstance(value, str):
        return value.replace("{n}", str(number))
    if isinstance(value, dict):
        return {name: numbered(inner, number) for name, inner in value.items()}
    return [numbered(inner, number) for inner in value] if isinstance(value, list) else value


class Run:
    """One case with one client."""

    def __init__(self, case, base_url):
        self.case = case
        self.waits = []
        self.attempts = []
        self.progress = []
        self.before_error = 0
        self.base_path = re.sub(r"^https?://[^/]+", "", base_url)
        given = case.get("client", {})
        settings = {name: given[name] for name in ("max_retries", "default_headers") if name in given}
        if "timeout_s" in given:
            settings["timeout"] = given["timeout_s"]
        if "cache" in given:
            settings["cache"] = helixflow.Cache(**given["cache"])
        self.key = given.get("api_key", KEY)
        self.settings = {"base_url": base_url, "api_key": self.key, "on_attempt": self.attempts.append, **settings}

    def call(self, client):
        """The method of the client with its arguments; async or not, it is not awaited here."""
        call = self.case["call"]
        name, params = call["method"], expand(call.get("params", {}))
        given = call.get("options", {})
        options = {name: given[name] for name in ("idempotency_key", "max_retries") if name in given}
        if "timeout_s" in given:
            options["timeout"] = given["timeout_s"]
        if "headers" in given:
            options["extra_headers"] = given["headers"]
        method = client
        for part in name.split("."):
            method = getattr(method, part)
        if name == "files.create":
            params["file"] = (params["file"]["filename"], params["file"]["text"])
        if name == "batch.process":
            options["progress"] = self.progress.append
        positional = [params.pop(each) for each in ("batch_id", "file_id", "request_id") if each in params]
        if name == "models.retrieve":
            positional = [params.pop("model")]
        return method(*positional, **params, **options)

    def sync(self):
        with helixflow.Client(**self.settings) as client:
            client._sleep = self.waits.append
            got = self.guarded(client, lambda: self.read(client))
            self.verdict = self.ask_for_verdict()
            return got

    def ask_for_verdict(self):
        """While the client still lives, since its end would close what it has left open."""
        with urllib.request.urlopen(self.settings["base_url"][: -len("/v1")] + "/verdict") as answer:
            return json.load(answer)["complaints"]

    def read(self, client):
        for _ in range(self.case["call"].get("times", 1)):
            result = self.call(client)
            if isinstance(result, helixflow.Stream):
                chunks = []
                for chunk in result:
                    chunks.append(chunk)
                    self.before_error = len(chunks)
                    if len(chunks) == self.case["call"].get("leave_after"):
                        break
                result = chunks
        return result

    async def asynchronous(self):
        async with helixflow.AsyncClient(**self.settings) as client:

            async def sleep(seconds):
                self.waits.append(seconds)

            client._sleep = sleep
            outcome = None
            try:
                outcome = await self.aread(client)
            except Exception as error:
                outcome = error
            got = self.guarded(client, lambda: outcome)
            self.verdict = await asyncio.get_running_loop().run_in_executor(None, self.ask_for_verdict)
            return got

    async def aread(self, client):
        for _ in range(self.case["call"].get("times", 1)):
            result = await self.call(client)
            if isinstance(result, helixflow.AsyncStream):
                chunks = []
                async for chunk in result:
                    chunks.append(chunk)
                    self.before_error = len(chunks)
                    if len(chunks) == self.case["call"].get("leave_after"):
                        break
                result = chunks
        return result

    def guarded(self, client, read):
        try:
            outcome = read()
        except Exception as error:
            outcome = error
        shown = [repr(client), str(client), repr(self.attempts)]
        if isinstance(outcome, BaseException):
            shown += [str(outcome), repr(outcome)]
            shown += traceback.format_exception(type(outcome), outcome, outcome.__traceback__)
        self.leaks = [text for text in shown if self.key in text]
        return outcome

    def complaints(self, got):
        outcome = self.case["outcome"]
        yield from (f"the key is shown: {leak}" for leak in self.leaks)
        if isinstance(got, BaseException) and "error" not in outcome:
            yield "raised " + "".join(traceback.format_exception(type(got), got, got.__traceback__))
            return
        if "result" in outcome:
            yield from self.picked(outcome["result"], got)
        if "chunks" in outcome:
            yield from self.chunks(outcome["chunks"], got)
        if "error" in outcome:
            yield from self.error(outcome["error"], got)
        if "results" in outcome:
            yield from self.results(outcome["results"], got)
        if "waits" in outcome:
            expected = outcome["waits"]
            fits = len(expected) == len(self.waits) and all(
                low <= wait <= high for (low, high), wait in zip(expected, self.waits)
            )
            if not fits:
                yield f"waited {self.waits}, not {expected}"
        if "attempts" in outcome:
            told = [self.attempt(attempt) for attempt in self.attempts]
            if len(told) != len(outcome["attempts"]):
                yield f"the hook was told of {told}"
            for expected, got_one in zip(outcome["attempts"], told):
                for name, value in expected.items():
                    if got_one[name] != value:
                        yield f"the hook's {name} was {got_one[name]!r}, not {value!r}"

    def attempt(self, attempt):
        prefix = self.base_path[: -len("/v1")]
        return {**attempt._asdict(), "path": attempt.path[len(prefix) :]}

    def picked(self, expected, got):
        if isinstance(got, bytes):
            got = SimpleNamespace(text=got.text)
        for path, value in expected.get("pick", {}).items():
            if (found := pick(got, path)) != value:
                yield f"{path} is {found!r}, not {value!r}"
        for path, length in expected.get("length", {}).items():
            if (found := len(pick(got, path))) != length:
                yield f"{path} has {found}, not {length}"

    def chunks(self, expected, got):
        if "count" in expected and len(got) != expected["count"]:
            yield f"{len(got)} chunks, not {expected['count']}"
        text = "".join(
            (choice.get("delta", {}).get("content") or choice.get("text") or "")
            for chunk in got
            for choice in chunk.choices
            if choice.index == 0
        )
        if "text" in expected and text != expected["text"]:
            yield f"the text is {text!r}, not {expected['text']!r}"
        yield from self.picked(expected, got)

    def error(self, expected, got):
        if not isinstance(got, getattr(helixflow, expected["type"])):
            yield f"came to {got!r}, not {expected['type']}"
            return
        for name in ("code", "status", "message", "request_id", "details", "param", "retry_after"):
            if name in expected and not fits(expected[name], getattr(got, name)):
                yield f"{name} is {getattr(got, name)!r}, not {expected[name]!r}"
        if expected.get("after_chunks", self.before_error) != self.before_error:
            yield f"it came after {self.before_error} chunks"

    def results(self, expected, got):
        counts = {"count": len(got), "succeeded": len(got.succeeded), "failed": len(got.failed)}
        for name, count in counts.items():
            if expected.get(name, count) != count:
                yield f"{name} is {count}, not {expected[name]}"
        yield from self.picked(expected, got)
        if self.case["call"]["method"] == "batch.process" and not self.progress:
            yield "no progress was told"


def fits(expected, value):
    if isinstance(expected, str) and expected.startswith("^"):
        return isinstance(value, str) and re.search(expected, value) is not None
    if isinstance(expected, list) and len(expected) == 2:
        return value is not None and expected[0] <= value <= expected[1]
    return bool(expected == value)


def pick(value, path):
    """By attribute or index, as users read."""
    for part in path.split("."):
        if value is None:
            return None
        if isinstance(value, list):
            value = value[int(part)] if int(part) < len(value) else None
        else:
            value = getattr(value, part, None)
    return value


def play(case, url, kind):
    run = f"py{kind}-{uuid.uuid4().hex[:8]}"
    base_url = f"{url}/{run}/{case['name']}/v1"
    played = Run(case, base_url)
    got = played.sync() if kind == "sync" else asyncio.run(played.asynchronous())
    return [*played.complaints(got), *played.verdict]


def verify(entry):
    """Complaints about one of signatures.json."""
    if entry.get("helper"):
        valid = helixflow.verify_webhook_signature(entry["payload"], entry["signature"], entry["secret"])
        return [] if valid is entry["valid"] else [f"valid is {valid}"]
    import base64

    payload = base64.b64decode(entry["payload_base64"]) if "payload_base64" in entry else entry["payload"]
    options = {"tolerance": entry["tolerance_s"]} if "tolerance_s" in entry else {}
    try:
        event = helixflow.webhooks.verify(payload, entry["headers"], entry["secrets"], now=entry["now"], **options)
    except helixflow.WebhookVerificationError as error:
        if any(secret and secret in str(error) for secret in entry["secrets"]):
            return ["the secret is shown"]
        return [] if error.reason == entry.get("reason") else [f"refused: {error.reason}"]
    if not entry["valid"]:
        return ["accepted"]
    expected = entry.get("event") or {}
    got = {name: event.get(name) for name in expected}
    return [] if got == expected else [f"read {got}"]


def main(names):
    url = os.environ["HELIXFLOW_CONTRACT_URL"].rstrip("/")
    cases = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((CONTRACT / "cases").glob("*.json"))]
    cases = [case for case in cases if not names or case["name"] in names]
    plays = [(case, kind) for case in cases for kind in ("sync", "async")]
    with ThreadPoolExecutor(8) as pool:
        played = pool.map(lambda one: (f"{one[0]['name']} ({one[1]})", play(one[0], url, one[1])), plays)
        found = list(played)
    signatures = CONTRACT / "signatures.json"
    entries = json.loads(signatures.read_text(encoding="utf-8")) if signatures.exists() else []
    found += [(f"signature {entry['name']}", verify(entry)) for entry in entries]
    failed = [(name, complaints) for name, complaints in found if complaints]
    for name, complaints in failed:
        print(f"{name}: " + "; ".join(complaints))
    print(f"{len(found) - len(failed)} of {len(found)} passed")
    return 1 if failed or not found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
