"""The Go SDK as its users get it: a module zip behind a proxy made of files, and `go get` from an empty module."""

import json
import os
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.golang import ENVIRONMENT, go
from tests.requirements import require_program

pytestmark = pytest.mark.timeout(300)  # Go's library is built first

SDK = Path(__file__).parents[2] / "sdks" / "go"
MODULE = "github.com/helixflow/helixflow-go"
SHIPPED = [*(path for path in SDK.glob("*.go") if not path.name.endswith("_test.go"))]
SHIPPED += [SDK / name for name in ("go.mod", "README.md", "CHANGELOG.md", "LICENSE")]
[REFERENCE, *EXAMPLES] = re.findall(r"```go\n(.*?)```", (SDK / "README.md").read_text(), re.DOTALL)
PACKAGES = ("context", "errors", "fmt", "io", "net/http", "os", "time")  # of the standard library, for the examples

README = """package main

import (
%(imports)s
)

const order = "order-4711"

%(functions)s

func main() {
	client, ctx := helixflow.NewClient(""), context.Background()
	for _, name := range os.Args[1:] {
		if err := map[string]func(context.Context, *helixflow.Client) error{%(names)s}[name](ctx, client); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
	}
}
"""


def run(program, *arguments, **environment):
    done = subprocess.run(
        [program, *arguments],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    return done.stdout


def version():
    (found,) = re.findall(r'const Version = "(.+)"', (SDK / "client.go").read_text())
    return f"v{found}"


def name_of(example):
    """What an example of the README is about, by the first call in it that says so."""
    calls = {"VerifyWebhook": "webhook", "client.Batch.": "batch", "CreateChatCompletionStream": "stream"}
    calls |= {"WithHook": "hook", "no-such-model": "errors", "IdempotencyKey": "retries", "CreateEmbeddings": "others"}
    calls |= {"client.Requests": "requests", "Temperature": "parameters"}
    return next(name for call, name in calls.items() if call in example)


def publish(folder):
    """A module proxy made of files (https://go.dev/ref/mod#goproxy-protocol), with this one module in it."""
    versions = folder / MODULE / "@v"
    versions.mkdir(parents=True)
    (versions / "list").write_text(f"{version()}\n")
    (versions / f"{version()}.info").write_text(json.dumps({"Version": version(), "Time": "2024-01-01T00:00:00Z"}))
    (versions / f"{version()}.mod").write_bytes((SDK / "go.mod").read_bytes())
    with zipfile.ZipFile(versions / f"{version()}.zip", "w") as archive:
        for path in SHIPPED:
            archive.write(path, f"{MODULE}@{version()}/{path.name}")
    return folder.as_uri()


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The folder of two programs: `reference`, and `readme` with the names of the examples to run."""
    root = tmp_path_factory.mktemp("go-sdk")
    app = root / "app"
    (app / "reference").mkdir(parents=True)
    (app / "readme").mkdir()
    (app / "reference" / "main.go").write_text(REFERENCE.replace('"your-api-key"', '""'))
    functions = {name_of(example): example for example in EXAMPLES}
    assert len(functions) == len(EXAMPLES)
    body = README % {
        "imports": "\n".join(f'\t"{package}"' for package in (*PACKAGES, MODULE)),
        "functions": "\n".join(
            f"func {name}Example(ctx context.Context, client *helixflow.Client) error {{\n{example}\nreturn nil\n}}"
            for name, example in functions.items()
        ),
        "names": ", ".join(f'"{name}": {name}Example' for name in functions),
    }
    (app / "readme" / "main.go").write_text(body)
    environment = {"GOPROXY": publish(root / "proxy"), "GOSUMDB": "off", "GOPATH": str(root / "path")}
    environment["GOFLAGS"] = f"{ENVIRONMENT['GOFLAGS']} -modcacherw"
    go("mod", "init", "example.com/app", folder=app, **environment)
    go("get", MODULE, folder=app, **environment)
    assert go("list", "-m", "all", folder=app, **environment).split() == ["example.com/app", MODULE, version()]
    go("build", "-o", f"{root / 'bin'}/", "./...", folder=app, **environment)
    return root / "bin"


def test_the_contract_and_what_is_go_s_own(contract_server):
    assert run(require_program("gofmt"), "-l", SDK) == ""
    output = go("test", "-vet=all", "-count=1", "-v", ".", folder=SDK, HELIXFLOW_CONTRACT_URL=contract_server)
    assert "--- PASS: TestContract " in output


def test_what_is_shipped():
    assert (SDK / "go.mod").read_text() == f"module {MODULE}\n\ngo 1.19\n"
    assert f"## {version().removeprefix('v')}\n" in (SDK / "CHANGELOG.md").read_text()


def test_the_reference_s_example(programs, sdk_platform):
    assert run(programs / "reference", **sdk_platform.environment).strip()


def test_the_readme_s_examples(programs, sdk_platform):
    names = [name for name in map(name_of, EXAMPLES) if name not in {"batch", "webhook"}]
    output = run(programs / "readme", *names, **sdk_platform.environment)
    assert "model_not_found 404 model req_" in output
    assert re.search(r"POST /v1/chat/completions 200 \S+ 0 req_\S+ gpt-3.5-turbo <nil> false true\n", output)


def test_the_readme_s_batch(programs, sdk_platform):
    output = run(programs / "readme", "batch", **sdk_platform.environment)
    assert re.search(r"3 done, 0 failed, for \$\d", output)
