"""The Python SDK as its users get it: built, installed into an empty environment without a network, and run there.

Its package has the server's name, so it is never imported here: everything runs in that environment.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.stack import wait_for

ROOT = Path(__file__).parents[2]
SDK = ROOT / "sdks" / "python"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", (SDK / "README.md").read_text(), re.DOTALL | re.MULTILINE)

# The reference's examples as printed, but for the key.
EXAMPLE = """
import helixflow

client = helixflow.Client()

response = client.chat.completions.create(
    model="gpt-3.5-turbo",
    messages=[
        {"role": "user", "content": "Hello, world!"}
    ]
)

print(response.choices[0].message.content)
"""
SETTING = """
import helixflow
client = helixflow.Client()
messages = ["Hello!"]
"""
BATCHING = """
# Instead of multiple individual requests
responses = []
for message in messages:
    response = client.chat.completions.create(
        model="gpt-3.5-turbo",
        messages=[{"role": "user", "content": message}]
    )
    responses.append(response)

# Use batch processing
batch_response = client.batch.process([
    {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": msg}]}
    for msg in messages
])
"""
PRACTICES = """
import time
import random

def retry_with_backoff(func, max_retries=3, base_delay=1):
    for attempt in range(max_retries):
        try:
            return func()
        except Exception as e:
            if attempt == max_retries - 1:
                raise e
            delay = base_delay * (2 ** attempt) + random.uniform(0, 1)
            time.sleep(delay)

import hashlib
import json
from functools import lru_cache

@lru_cache(maxsize=1000)
def cached_completion(model, messages_hash):
    messages = json.loads(messages_hash)
    return client.chat.completions.create(
        model=model,
        messages=messages
    )

def get_completion_with_cache(model, messages):
    messages_hash = json.dumps(messages, sort_keys=True)
    return cached_completion(model, messages_hash)

try:
    response = client.chat.completions.create(
        model="gpt-3.5-turbo",
        messages=messages
    )
except helixflow.RateLimitError as e:
    # Handle rate limit errors
    print(f"Rate limit exceeded: {e}")
    time.sleep(60)  # Wait before retrying
except helixflow.AuthenticationError as e:
    # Handle authentication errors
    print(f"Authentication failed: {e}")
    # Refresh API key or check credentials
except helixflow.APIError as e:
    # Handle other API errors
    print(f"API error: {e}")
    # Implement retry logic

import time
import logging

logging.basicConfig(level=logging.INFO)
logger = logging.getLogger(__name__)

def monitored_completion(model, messages):
    start_time = time.time()

    try:
        response = client.chat.completions.create(
            model=model,
            messages=messages
        )

        duration = time.time() - start_time
        tokens = response.usage.total_tokens

        logger.info(f"API call completed in {duration:.2f}s with {tokens} tokens")

        return response

    except Exception as e:
        duration = time.time() - start_time
        logger.error(f"API call failed after {duration:.2f}s: {e}")
        raise
"""
USES = """
one = get_completion_with_cache("gpt-3.5-turbo", messages)
assert get_completion_with_cache("gpt-3.5-turbo", messages) is one
retry_with_backoff(lambda: monitored_completion("gpt-3.5-turbo", messages))
client = client.with_options(api_key="hflow_wrong")
"""


class Environment:
    """A virtual environment with the SDK and what it needs, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.packages = next((folder / "lib").glob("python3*/site-packages"))

    def install(self, package: Path) -> None:
        options = ["--no-index", "--no-deps", "--no-build-isolation", "--no-cache-dir", "--quiet"]
        self.check([sys.executable, "-m", "pip", "--python", self.program("python"), "install", *options, package])

    def program(self, name: str) -> Path:
        return self.folder / "bin" / name

    def run(self, *command, text=None, **environment):
        program, *arguments = command
        return subprocess.run(
            [self.program(program), *map(str, arguments)],
            cwd=self.folder,
            env=self.environment | environment,
            input=text or "",
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def check(self, command) -> None:
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=self.environment)
        assert done.returncode == 0, done.stdout + done.stderr

    def python(self, *arguments, **options):
        done = self.run("python", *arguments, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    @property
    def environment(self):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HELIXFLOW_", "PYTHON"))}
        return kept | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}


def needed(name, found=None):
    """The distributions that one needs, as they are installed here, itself included."""
    found = {} if found is None else found
    if name not in found:
        found[name] = distribution(name)
        for requirement in map(Requirement, found[name].requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed(requirement.name, found)
    return found


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The wheel, made from the sdist, and the sdist."""
    source = tmp_path_factory.mktemp("python-sdk")
    shutil.copytree(SDK, source / "sdk", ignore=shutil.ignore_patterns("dist", "__pycache__", "tests"))
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", source / "dist", source / "sdk"]
    subprocess.run(command, capture_output=True, check=True, timeout=100)
    [wheel], [sdist] = (source / "dist").glob("*.whl"), (source / "dist").glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="session")
def installed(built, tmp_path_factory):
    environment = Environment(tmp_path_factory.mktemp("python-sdk") / "venv")
    environment.install(built[0])
    for package in needed("httpx").values():
        for path in package.files or ():
            if ".." not in path.parts and "__pycache__" not in path.parts:
                target = environment.packages / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path.locate(), target)
    return environment


def test_what_is_built(built, installed):
    wheel, sdist = built
    assert re.fullmatch(r"helixflow-[\d.]+-py3-none-any.whl", wheel.name)
    listed = subprocess.run(["tar", "tzf", sdist], capture_output=True, text=True, check=True).stdout
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml"} <= set(
        re.findall(r"^[^/]+/([^/]+)$", listed, re.MULTILINE)
    )
    described = next(installed.packages.glob("helixflow-*.dist-info")) / "METADATA"
    assert re.findall(r"^Requires-Dist: (.*)$", described.read_text(), re.MULTILINE) == ["httpx>=0.25,<1"]
    assert (installed.packages / "helixflow" / "py.typed").exists()


def test_the_contract(installed, contract_server):
    runner = SDK / "tests" / "contract_runner.py"
    done = installed.run("python", runner, HELIXFLOW_CONTRACT_URL=contract_server)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_python_s_own(installed):
    installed.python("-W", "error::ResourceWarning", SDK / "tests" / "test_package.py")


def test_the_reference_s_examples(installed, sdk_platform):
    program = EXAMPLE + 'messages = [{"role": "user", "content": "Hello!"}]\n' + PRACTICES + USES + PRACTICES
    output = installed.python("-", text=program, **sdk_platform.environment)
    assert re.search(r"API call completed in [\d.]+s with \d+ tokens", output)
    assert re.search(r"Authentication failed: .*invalid_api_key, req_\w+", output)
    assert "hflow_wrong" not in output


def test_the_readme_s_examples(installed, sdk_platform):
    program = "\n".join(example for example in EXAMPLES if "client.batch." not in example)
    output = installed.python("-W", "error", "-", text=program, **sdk_platform.environment)
    assert re.search(r"model_not_found 404 .* model req_\w+$", output, re.MULTILINE)
    assert re.search(r"^POST /v1/chat/completions 200 0\.000 s None$", output, re.MULTILINE), "the cache's answer"


def test_batches(installed, sdk_platform):
    """Of the reference and of the README."""
    [example] = [example for example in EXAMPLES if "client.batch." in example]
    program = SETTING + BATCHING + "assert batch_response[0].unwrap().choices[0].message.content\n" + example
    output = installed.python("-", text=program, **sdk_platform.environment)
    assert "3 succeeded, 0 failed" in output


def test_the_command_line(installed, sdk_platform):
    def helixflow(*arguments, text=None, **environment):
        return installed.run("helixflow", *arguments, text=text, **sdk_platform.environment | environment)

    done = helixflow("chat", "Say it again:", "--max-tokens", "5", "-s", "Be brief.", text="Hello!\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
    assert "gpt-4\n" in helixflow("models").stdout
    for arguments, code, told in (
        (["chat", "Hi", "--model", "no-such"], 1, "helixflow: The model 'no-such' does not exist"),
        (["chat"], 2, "helixflow: What shall be asked?"),
        (["batch", "missing.jsonl"], 2, "helixflow: missing.jsonl can't be read: No such file"),
        (["batch", "-"], 2, "helixflow: -, line 1: not a JSON object."),
    ):
        done = helixflow(*arguments, text="nonsense" if arguments[-1] == "-" else None)
        assert done.returncode == code
        assert done.stderr.startswith(told)
    done = helixflow("models", HELIXFLOW_API_KEY="")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_ctrl_c_is_quiet(installed, sdk_platform):
    """And a stream has reached the terminal before it has ended."""
    command = [installed.program("python"), "-m", "helixflow", "chat", "Tell a long story.", "--max-tokens", "2000"]
    with subprocess.Popen(
        command,
        env=installed.environment | sdk_platform.environment,
        cwd=installed.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        wait_for(lambda: process.poll() is not None, seconds=20)
        assert (process.returncode, process.stderr.read()) == (130, b"")
