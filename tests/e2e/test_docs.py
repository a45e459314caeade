"""Every snippet of the documentation runs, as the pages show it, and every answer is what the description says.

Against the whole of HelixFlow with its real embedded model. Receivers of webhooks are tried in tests/webhooks.
"""

import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Page, expect

from helixflow.site import docs
from helixflow.site.openapi import reference
from tests import golang
from tests.described import problems
from tests.requirements import require_node_package, require_program
from tests.stack import Stack, wait_for
from webhooks import signing

pytestmark = pytest.mark.timeout(400)  # the embedded model, and Go's compiler

PASSWORD = "a long password of yours"
SDKS = Path(__file__).parents[2] / "sdks"
SDK = SDKS / "python" / "src"  # as if it were installed
RUN_ELSEWHERE = "".join(path.read_text() for path in SDKS.glob("*/README.md"))  # by tests/sdks, all of them
PAGES = ("/docs", *(page.href for page in docs.PAGES), "/docs/api")
CHAPTERS = tuple(chapter.href for chapter in reference.chapters())
NOT_RUN = {"json", "http", "text"}
# They need a receiver that everybody can reach and what failed there, a second person, a verified address, or a batch
# that stands still: tests/helixflow/test_openapi_answers.py has them.
NOT_ALONE = {
    "createWebhook",
    "resendWebhookDelivery",
    "updateMember",
    "createOrganization",
    "transferOrganization",
    "removeMember",
    "createInvitation",
    "getInvitation",
    "resendInvitation",
    "withdrawInvitation",
    "cancelBatch",
    "retryBatch",
}
# Programs in Python, each in a process of its own: a fork, since importing the SDK takes longer than all they do.
EACH_IN_A_FORK = """
import json, os, sys, tempfile, traceback
import openai

def run(text):
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child:
            status = os.waitpid(child, 0)[1]
            output.seek(0)
            return os.waitstatus_to_exitcode(status), output.read().decode()
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        code = 1
        try:
            exec(compile(text, "snippet", "exec"), {"__name__": "__main__"})
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)

print(json.dumps([run(text) for text in json.load(sys.stdin)]))
"""
LEADS_NOWHERE = "no-such-model"  # in the snippets about errors


class Blocks(HTMLParser):
    """The code blocks of a page, by language."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self._open = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        language = dict(attrs).get("data-language")
        if tag == "code" and language:
            self._open = True
            self.found.append((language, ""))

    def handle_endtag(self, tag: str) -> None:
        self._open = self._open and tag != "code"

    def handle_data(self, data: str) -> None:
        if self._open:
            language, text = self.found[-1]
            self.found[-1] = (language, text + data)


@pytest.fixture(scope="module")
def shown(stack: Stack) -> dict[str, list[str]]:
    """What the pages show, once each, by language."""
    found: dict[str, dict[str, None]] = {}
    for path in (*PAGES, *CHAPTERS):
        page = requests.get(f"{stack.url}{path}", timeout=60)
        assert page.status_code == 200, path
        for language, text in Blocks(page.text).found:
            if text not in RUN_ELSEWHERE:
                found.setdefault("shell" if language == "curl" else language, {})[text] = None
    assert {"shell", "python", "javascript", "go"} <= found.keys() - NOT_RUN
    assert found.keys() - NOT_RUN == {"shell", "python", "javascript", "go"}, "who runs that language?"
    return {language: list(texts) for language, texts in found.items()}


@dataclass
class World:
    """An account with all that the examples name, anew for those that use something up."""

    stack: Stack
    folder: Path
    password: str = PASSWORD
    username: str = ""
    variables: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        headers = {"Authorization": f"Bearer {token or self.variables['ACCESS_TOKEN']}"}
        url = f"{self.stack.base_url}{path}"
        answer = requests.request(method, url, json=body, headers=headers, timeout=60)
        assert answer.ok, answer.text
        return answer.json()

    def log_in(self) -> None:
        body = {"username": self.username, "password": self.password}
        answer = requests.post(f"{self.stack.base_url}/auth/login", json=body, timeout=60).json()
        self.variables |= {"ACCESS_TOKEN": answer["access_token"], "REFRESH_TOKEN": answer["refresh_token"]}

    def prepare(self) -> None:
        self.username = f"{uuid.uuid4().hex}@example.com"
        body = {"username": self.username, "email": self.username, "password": self.password}
        user = requests.post(f"{self.stack.base_url}/auth/register", json=body, timeout=60).json()
        self.log_in()
        self.variables |= {
            "HELIXFLOW_USERNAME": self.username,
            "HELIXFLOW_PASSWORD": self.password,
            "HELIXFLOW_WEBHOOK_SECRET": signing.new_secret(),
            "USER_ID": user["user_id"],
        }
        key = self.call("POST", "/api-keys", {"name": "Docs"})["data"]
        self.variables |= {"HELIXFLOW_API_KEY": key["key"], "KEY_ID": key["id"]}
        hook = {"url": "http://127.0.0.1:9/", "events": ["quota.low"]}
        self.variables["WEBHOOK_ID"] = self.call("POST", "/webhooks", hook)["data"]["id"]
        test = self.call("POST", f"/webhooks/{self.variables['WEBHOOK_ID']}/test", {})
        self.variables["DELIVERY_ID"] = test["data"]["id"]
        chat = {"model": "gpt-3.5-turbo", "max_tokens": 2, "messages": [{"role": "user", "content": "Hi"}]}
        self.variables["REQUEST_ID"] = self.call("POST", "/chat/completions", chat, key["key"])["id"]
        self.variables["BATCH_ID"] = self.call("POST", "/batches", {"requests": [chat]}, key["key"])["id"]
        self.upload(chat)
        path = f"/requests/{self.variables['REQUEST_ID']}"
        token = {"Authorization": f"Bearer {key['key']}"}
        wait_for(lambda: requests.get(f"{self.stack.base_url}{path}", headers=token, timeout=10).ok, what="the receipt")

    def upload(self, chat: Any) -> None:
        """The file that the examples upload, and one that is there already."""
        line = {"custom_id": "request-1", "method": "POST", "url": "/v1/chat/completions", "body": chat}
        path = self.folder / "requests.jsonl"
        path.write_text(json.dumps(line) + "\n")
        made = requests.post(
            f"{self.stack.base_url}/files",
            headers={"Authorization": f"Bearer {self.variables['HELIXFLOW_API_KEY']}"},
            data={"purpose": "batch"},
            files={"file": path.open("rb")},
            timeout=60,
        )
        self.variables["FILE_ID"] = made.json()["id"]

    def renew_key(self) -> None:
        self.variables["KEY_ID"] = self.call("POST", "/api-keys", {"name": "Short-lived"})["data"]["id"]

    def run(self, *command: str, text: str | None = None) -> "subprocess.CompletedProcess[str]":
        own = {"CURL_HOME": str(self.folder), "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(SDK)}
        return subprocess.run(
            command,
            cwd=self.folder,
            input=text,
            env=os.environ | own | self.variables,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def shell(self, text: str) -> "subprocess.CompletedProcess[str]":
        return self.run(require_program("bash"), "-euo", "pipefail", "-c", text)


@pytest.fixture
def world(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> World:
    """New for each test: among the reference's commands are some that delete."""
    require_program("curl")
    folder = tmp_path_factory.mktemp("docs")
    (folder / ".curlrc").write_text("silent\nshow-error\nfail-with-body\nmax-time = 60\n")
    world = World(stack, folder)
    world.prepare()
    return world


def complaint(done: "subprocess.CompletedProcess[str]", text: str) -> str | None:
    expected = 22 if LEADS_NOWHERE in text and "curl" in text else 0
    return None if done.returncode == expected else f"ended with {done.returncode}: {done.stdout} {done.stderr}"


def test_every_shell_snippet_of_the_guides_runs(stack: Stack, world: World) -> None:
    failed = {}
    for path in PAGES:
        for language, text in Blocks(requests.get(f"{stack.url}{path}", timeout=60).text).found:
            if language not in {"shell", "curl"} or text in RUN_ELSEWHERE:
                continue
            if problem := complaint(world.shell(text), text):
                failed[text] = problem
    assert failed == {}


def test_every_python_snippet_runs(shown: dict[str, list[str]], world: World) -> None:
    failed = {}
    texts = [text for text in shown["python"] if "serve_forever" not in text]
    run = world.run(sys.executable, "-c", EACH_IN_A_FORK, text=json.dumps(texts))
    assert run.returncode == 0, run.stderr
    for text, (code, output) in zip(texts, json.loads(run.stdout), strict=True):
        if code or not (output.strip() or "def is_genuine" in text):
            failed[text] = output
    assert failed == {}


def test_every_javascript_snippet_runs(shown: dict[str, list[str]], world: World) -> None:
    modules = world.folder / "node_modules"
    modules.symlink_to(require_node_package("openai") / "node_modules")
    failed = {}
    for text in shown["javascript"]:
        if "createServer" in text:
            continue
        done = world.run(require_program("node"), "--input-type=module", "-", text=text)
        if done.returncode or not done.stdout.strip():
            failed[text] = done.stdout + done.stderr
    assert failed == {}


def test_every_go_snippet_runs(shown: dict[str, list[str]], world: World) -> None:
    programs = [text for text in shown["go"] if "ListenAndServe" not in text]
    for number, text in enumerate(programs):
        folder = world.folder / "go" / f"p{number}"
        folder.mkdir(parents=True)
        (folder / "main.go").write_text(text)
    (world.folder / "go" / "go.mod").write_text("module docs\n")
    (world.folder / "bin").mkdir()
    golang.go("build", "-o", f"{world.folder}/bin/", "./...", folder=world.folder / "go")
    failed = {}
    for number, text in enumerate(programs):
        done = world.run(f"bin/p{number}")
        if done.returncode or not done.stdout.strip():
            failed[text] = done.stdout + done.stderr
    assert failed == {}


@pytest.fixture(scope="module")
def described(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{stack.base_url}/openapi.json", timeout=60).json()
    return found


def test_every_command_of_the_reference_is_answered_as_described(
    stack: Stack, world: World, described: dict[str, Any]
) -> None:
    """With what is printed there: the command by bash, its answer held to the schema, to the last field."""
    failed: dict[str, Any] = {}
    entries = [entry for chapter in reference.chapters() for entry in chapter.operations]
    for entry in sorted(entries, key=lambda each: each.id in {"deleteOrganization", "keepOrganization"}):
        if entry.id in NOT_ALONE:
            continue
        command = entry.curl.replace(reference_base(), stack.base_url)
        if "$KEY_ID" in command:
            world.renew_key()
        if "Analytical Engines" in command:
            world.call("PATCH", "/organization", {"name": "Analytical Engines"})
        done = world.shell(command)
        if done.returncode:
            failed[entry.id] = done.stdout + done.stderr
            continue
        told = described["paths"][entry.path][entry.method.lower()]["responses"]
        content = next(told[status] for status in told if status < "300")["content"]
        if "application/jsonl" in content:
            assert [json.loads(line)["custom_id"] for line in done.stdout.splitlines()] == ["request-1"]
        elif found := problems(described, content["application/json"]["schema"], json.loads(done.stdout)):
            failed[entry.id] = found
        if entry.id in {"logout", "refreshLogin"}:
            world.log_in()
    assert failed == {}


def reference_base() -> str:
    """As the reference of this process shows it."""
    entry = reference.chapters()[0].operations[0]
    return entry.curl.split()[1].removesuffix(entry.path)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("post", "/chat/completions", {"messages": []}, 400),
        ("get", "/models/no-such-model", None, 404),
        ("get", "/api-keys/key_none", None, 401),
        ("post", "/auth/login", {"username": "x", "password": "y"}, 401),
    ],
)
def test_errors_are_answered_as_described(
    stack: Stack, described: dict[str, Any], method: str, path: str, body: Any, status: int
) -> None:
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    answer = requests.request(method, f"{stack.base_url}{path}", json=body, headers=headers, timeout=60)
    assert answer.status_code == status
    assert problems(described, {"$ref": "#/components/schemas/Error"}, answer.json()) == []


def test_what_is_typed_is_found_at_once_and_by_keyboard(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.url}/docs")
    box = page.locator(".guide__side").get_by_role("searchbox")
    box.fill("rotate a key")
    found = page.locator(".guide__side [data-found] a")
    expect(found.first).to_be_visible()
    box.press("ArrowDown")
    expect(found.first).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/docs/**#*")
    expect(page.get_by_role("heading", name="Rotate a key")).to_be_in_viewport()
    box = page.locator(".guide__side").get_by_role("searchbox")
    box.fill("idempot")
    box.press("Enter")
    page.wait_for_url("**/docs/search?q=idempot")
