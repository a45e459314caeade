"""The command line: ``helixflow chat "Hello!"``, or ``python -m helixflow``.

Ends with 0; 1 for an error of the API; 2 for wrong use; 3 for a batch some of whose requests failed; 130 for Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Callable, Sequence

from helixflow import APIError, Client, HelixFlowError, __version__
from helixflow._batches import ENDPOINT, BatchResults, Line

if TYPE_CHECKING:
    from helixflow import BatchResult
    from helixflow.types import Batch

MODEL = "gpt-3.5-turbo"
FAILED, MISUSED, IN_PART, INTERRUPTED = 1, 2, 3, 130


class Misuse(Exception):  # noqa: N818  # it is told, not raised further
    """What was asked for can't be done, and how it can."""


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace, Client], int] = given.run
    try:
        with Client(base_url=given.base_url, timeout=given.timeout) as client:
            return run(given, client)
    except Misuse as problem:
        return _told(str(problem), MISUSED)
    except HelixFlowError as error:
        return _told("\n".join([str(error), *_others(error)]), FAILED)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED


def chat(given: argparse.Namespace, client: Client) -> int:
    """Stream one answer to stdout."""
    piped = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read().strip()
    question = "\n\n".join(part for part in (given.message, piped) if part)
    if not question:
        raise Misuse('What shall be asked? helixflow chat "…", or pipe a text into it.')
    messages = [{"role": "user", "content": question}]
    if given.system:
        messages.insert(0, {"role": "system", "content": given.system})
    options: dict[str, Any] = {
        name: getattr(given, name) for name in ("temperature", "max_tokens") if getattr(given, name) is not None
    }
    with client.chat.completions.create(model=given.model, messages=messages, stream=True, **options) as stream:
        for piece in stream.text():
            _write(piece)
    _write("\n")
    return 0


def models(given: argparse.Namespace, client: Client) -> int:
    """List the models."""
    for model in client.models.list():
        _write(f"{model.id}\n")
    return 0


def batch(given: argparse.Namespace, client: Client) -> int:
    """Run the requests of a file, a JSON object a line, and write the results as lines of JSON, in the same order."""
    progress = _Progress(given.quiet)
    try:
        if given.resume:
            client.batch.wait(given.resume, progress=progress)
            results = client.batch.results(given.resume)
        else:
            if not given.file:
                raise Misuse("Which requests? helixflow batch requests.jsonl, or - for stdin.")
            requests, endpoint = _requests(given.file)
            results = client.batch.process(requests, endpoint=endpoint, progress=progress)
    except KeyboardInterrupt:
        if progress.batch_id:
            _told(f"The batch goes on. Its results: helixflow batch --resume {progress.batch_id}", INTERRUPTED)
        raise
    for result in results:
        _write(json.dumps(_plain(result), ensure_ascii=False) + "\n")
    _told(_summary(results), 0)
    return IN_PART if results.failed else 0


class _Progress(Line):
    """Tells of the batch, and remembers which it is."""

    def __init__(self, quiet: bool) -> None:
        super().__init__()
        self.batch_id: str | None = None
        self._quiet = quiet

    def __call__(self, batch: Batch) -> None:
        self.batch_id = batch.id
        if not self._quiet:
            super().__call__(batch)


def _requests(path: str) -> tuple[list[dict[str, Any]], str | None]:
    """Bodies of calls, or lines of OpenAI's batch files, whose ``body`` is one; and the endpoint that those name."""
    found, endpoints = [], set()
    text = _text_of(path)
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            raise Misuse(f"{path}, line {number}: not a JSON object. Write each request as one, whole, on a line.")
        if isinstance(entry.get("body"), dict):
            name = {"custom_id": entry["custom_id"]} if "custom_id" in entry else {}
            endpoints.add(str(entry.get("url") or ENDPOINT))
            entry = {**entry["body"], **name}
        found.append(entry)
    if not found:
        raise Misuse(f"{path} holds no requests.")
    if len(endpoints) > 1:
        raise Misuse(f"{path} has more than one url ({', '.join(sorted(endpoints))}): give each a file of its own.")
    return found, endpoints.pop() if endpoints else None


def _text_of(path: str) -> str:
    """Of a file or of stdin, in UTF-8 as JSON is, with or without the byte order mark that Windows likes."""
    try:
        if path == "-":
            return sys.stdin.buffer.read().decode("utf-8-sig")
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except OSError as problem:
        raise Misuse(f"{path} can't be read: {problem.strerror}.") from None
    except UnicodeDecodeError:
        raise Misuse(f"{path} is not in UTF-8: save it as UTF-8.") from None


def _others(error: HelixFlowError) -> list[str]:
    """What else is wrong, where a message names the first of several."""
    details = error.details if isinstance(error, APIError) else {}
    return [f"  {where}: {what}" for where, what in details.items()] if len(details) > 1 else []


def _plain(result: BatchResult) -> dict[str, Any]:
    error = result.error
    return {
        "custom_id": result.custom_id,
        "response": result.response,
        "error": None if error is None else {"code": error.code, "message": error.message, "status": error.status},
    }


def _summary(results: BatchResults) -> str:
    cost = f", cost {results.batch.cost}" if results.batch.cost else ""
    return f"{results.batch.id}: {len(results.succeeded)} succeeded, {len(results.failed)} failed{cost}"


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _told(text: str, code: int) -> int:
    sys.stderr.write(f"helixflow: {text}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="helixflow",
        description="HelixFlow's API on the command line.",
        epilog="The key is read from HELIXFLOW_API_KEY, and the base URL from HELIXFLOW_BASE_URL.",
    )
    parser.add_argument("--version", action="version", version=f"helixflow {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--base-url", help="in place of HELIXFLOW_BASE_URL")
    common.add_argument("--timeout", type=float, default=600.0, help="seconds that an answer may take (600)")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(run: Callable[..., int], words: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = commands.add_parser(
            run.__name__, help=words, description=run.__doc__, parents=[common]
        )
        made.set_defaults(run=run)
        return made

    talk = command(chat, "ask a model and stream its answer")
    talk.add_argument("message", nargs="?", help="what is asked; what is piped in is put after it")
    talk.add_argument("--model", "-m", default=MODEL, help=f"({MODEL})")
    talk.add_argument("--system", "-s", help="instructions for the model")
    talk.add_argument("--temperature", type=float)
    talk.add_argument("--max-tokens", type=int)
    command(models, "list the models")
    many = command(batch, "run a file of requests and wait for the results")
    many.add_argument("file", nargs="?", help="JSON lines, or - for stdin")
    many.add_argument("--resume", metavar="BATCH_ID", help="wait for a batch that was made before")
    many.add_argument("--quiet", "-q", action="store_true", help="no progress")
    return parser


if __name__ == "__main__":
    sys.exit(main())
