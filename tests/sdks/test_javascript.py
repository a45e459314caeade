"""The JavaScript SDK as its users get it: packed, installed into an empty folder without a network, and run there."""

import contextlib
import json
import os
import queue
import re
import shutil
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.requirements import missing, require_browser, require_program

ROOT = Path(__file__).parents[2]
SDK = ROOT / "sdks" / "javascript"
BUILDING = ("package.json", "tsconfig.json", "build.mjs", "src", "README.md", "CHANGELOG.md", "LICENSE")

# The reference's, as printed, but for the key.
REFERENCE = """
const HelixFlow = require('helixflow');

const client = new HelixFlow.Client({
    apiKey: process.env.HELIXFLOW_API_KEY
});

(async () => {
const response = await client.chat.completions.create({
    model: 'gpt-3.5-turbo',
    messages: [
        {role: 'user', content: 'Hello, world!'}
    ]
});

console.log(response.choices[0].message.content);
})();
"""


def run(*command, cwd, **environment):
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | {"npm_config_update_notifier": "false", "FORCE_COLOR": "0"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    return done.stdout


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """A folder that has nothing but the package in it, and the SDK's tests beside it."""
    npm = require_program("npm")
    if not (SDK / "node_modules" / "typescript").is_dir():
        missing("TypeScript is not installed: run `npm ci --prefix sdks/javascript --ignore-scripts`")
    root = tmp_path_factory.mktemp("javascript-sdk")
    source = root / "source"
    source.mkdir()
    for name in BUILDING:
        (shutil.copytree if (SDK / name).is_dir() else shutil.copy)(SDK / name, source / name)
    (source / "node_modules").symlink_to(SDK / "node_modules")
    run(npm, "pack", "--silent", cwd=source)  # which builds
    [package] = source.glob("*.tgz")
    folder = root / "sdks" / "consumer"
    shutil.copytree(SDK / "test", folder / "test")
    (folder.parent / "contract").symlink_to(ROOT / "sdks" / "contract")
    (folder / "package.json").write_text("{}")
    run(npm, "install", "--offline", "--ignore-scripts", "--no-audit", "--no-fund", str(package), cwd=folder)
    return folder


def test_what_is_installed(installed):
    package = installed / "node_modules" / "helixflow"
    assert [each.name for each in (installed / "node_modules").glob("[!.]*")] == ["helixflow"]
    assert {each.name for each in package.iterdir()} == {"package.json", "dist", "README.md", "CHANGELOG.md", "LICENSE"}
    described = json.loads((package / "package.json").read_text())
    assert "dependencies" not in described
    assert f'"{described["version"]}"' in (package / "dist" / "esm" / "version.js").read_text()
    assert "node:" not in re.sub(r'const NODE = "node:crypto"', "", _modules(package))


def _modules(package):
    """The code of all modules for browsers, without comments."""
    code = "\n".join(path.read_text() for path in sorted((package / "dist" / "esm").rglob("*.js")))
    return re.sub(r"/\*.*?\*/|//.*", "", code, flags=re.DOTALL)


def test_the_contract_and_what_is_javascript_s_own(installed, contract_server):
    tests = ["test/client.test.mjs", "test/contract.test.mjs"]
    output = run(require_program("node"), "--test", *tests, cwd=installed, HELIXFLOW_CONTRACT_URL=contract_server)
    assert "# fail 0" in output or "ℹ fail 0" in output


@pytest.mark.parametrize("name", ["types.mts", "types.cts"])
def test_types(installed, name):
    tsc = SDK / "node_modules" / "typescript" / "bin" / "tsc"
    options = [
        "--noEmit",
        "--strict",
        "--target",
        "es2022",
        "--lib",
        "es2022,dom",
        "--types",
        "",
        "--skipLibCheck",
        "false",
    ]
    run(require_program("node"), str(tsc), "--module", "nodenext", *options, f"test/{name}", cwd=installed)


def test_the_reference_s_example(installed, sdk_platform):
    (installed / "reference.cjs").write_text(REFERENCE)
    assert run(require_program("node"), "reference.cjs", cwd=installed, **sdk_platform.environment).strip()


def test_the_readme_s_examples(installed, sdk_platform):
    """One after another, each in a function of its own, with the client that the README speaks of."""
    examples = re.findall(r"```js\n(.*?)```", (SDK / "README.md").read_text(), re.DOTALL)
    assert len(examples) >= 11
    each = "\n".join(f"await (async () => {{\n{example}\n}})();" for example in examples)
    (installed / "readme.cjs").write_text(
        "const HelixFlow = require('helixflow');\nconst client = new HelixFlow.Client();\n"
        f"(async () => {{\n{each}\nconsole.log('all of them');\n}})();\n"
    )
    output = run(require_program("node"), "readme.cjs", cwd=installed, **sdk_platform.environment)
    assert output.endswith("all of them\n")
    assert "ModelNotFoundError model_not_found 404 model req_" in output
    assert re.search(r"3 done, 0 failed, for \$\d", output)
    assert re.search(r'^completed \{.*"custom_id": ?"first"', output, re.MULTILINE)
    assert re.search(r"POST /v1/chat/completions 200 \d+ 0 .* true", output), "the cache's answer"
    assert "quota.low 2024-01-01T00:00:00Z" in output


CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "Hi!"}}]}\n\n'
PAGE = b'<!doctype html><title>SDK</title><script type="module" src="/page.mjs"></script>'


class Site(ThreadingHTTPServer):
    """A page, the package's modules, and a stream that goes on until it is left. Tells what the page told."""

    daemon_threads = True

    def __init__(self, modules: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.modules = modules
        self.seen: queue.Queue[dict[str, str]] = queue.Queue()
        self.left = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        if self.path == "/":
            self._answer(PAGE, "text/html")
        elif self.path == "/page.mjs":
            self._answer((SDK / "test" / "browser.mjs").read_bytes(), "text/javascript")
        elif self.path.startswith("/esm/"):
            self._answer((self.server.modules / self.path.removeprefix("/esm/")).read_bytes(), "text/javascript")
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/seen":
            self._answer(b"", "text/plain")
            self.server.seen.put(json.loads(body))
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(CHUNK)
                time.sleep(0.01)
        self.server.left.set()

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(installed):
    with Site(installed / "node_modules" / "helixflow" / "dist" / "esm") as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield site
        site.shutdown()


def test_a_page_streams_and_leaves(site, tmp_path):
    """Without a build, and with its key only if that is meant."""
    browser = subprocess.Popen(
        [
            require_browser(),
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
            f"--user-data-dir={tmp_path}",
            f"http://127.0.0.1:{site.server_port}/",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        seen = site.seen.get(timeout=60)
        assert "allowBrowser" in seen.pop("refusal")
        assert seen == {"text": "Hi!Hi!"}
        assert site.left.wait(10), "the page's connection stayed open"
    finally:
        browser.terminate()
        browser.wait(20)
