"""Installs each SDK and the official openai package of its language as people do, into empty folders.

Ours comes from built packages. Theirs: Python's and Node's at the versions of the tests, Go's newest. What is not
already on the machine is fetched by pip and go; where that fails, a pair is left out and the report says why.
"""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.processes import ROOT, BenchError, program

PROGRAMS: Final = Path(__file__).parent / "programs"
OPENAI_GO: Final = "github.com/openai/openai-go/v3"
BARE_GO: Final = """package main

import (
	"encoding/json"
	"net/http"
	"os"
)

func main() {
	if len(os.Args) > 1 {
		answer, _ := http.Get(os.Args[1])
		_ = json.NewDecoder(answer.Body).Decode(&os.Args)
	}
}
"""


@dataclass(frozen=True)
class Installed:
    """``command(mode, base_url)``: "bare" does nothing, "import" makes a client, "first" calls once, "serve" measures.

    ``size`` is in bytes, of all files: of Go, what the program is larger than one without the SDK but with net/http.
    """

    version: str
    size: int
    dependencies: list[str]
    folder: Path
    command: Callable[[str, str], list[str]]


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode:
        raise BenchError(f"{' '.join(command[:4])} failed:\n{(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def size_of(folder: Path) -> int:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return sum(path.stat().st_size for path in files)


def python(name: str, folder: Path) -> Installed:
    """In a virtual environment of its own. Bytecode is made beforehand, as installers do, and not counted."""
    if name == "helixflow":
        source = folder / "source"
        shutil.copytree(ROOT / "sdks" / "python", source, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
        run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), cwd=source)
        wanted = str(next(folder.glob("*.whl")))
    else:
        wanted = f"{name}=={importlib.metadata.version(name)}"
    run(sys.executable, "-m", "venv", str(folder / "venv"), "--without-pip", cwd=folder)
    site = next((folder / "venv").glob("lib/python*/site-packages"))
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile")
    run(*pip, "--target", str(site), wanted, cwd=folder)
    size = size_of(site)
    interpreter = str(folder / "venv" / "bin" / "python")
    run(interpreter, "-m", "compileall", "-q", str(site), cwd=folder)
    found = {entry.name.lower(): entry.version for entry in importlib.metadata.distributions(path=[str(site)])}

    def command(mode: str, base_url: str) -> list[str]:
        if mode == "serve":
            return [interpreter, str(PROGRAMS / "client.py"), name, base_url]
        client = f"{name}.{'Client' if name == 'helixflow' else 'OpenAI'}(api_key='bench', base_url={base_url!r})"
        messages = [{"role": "user", "content": "Hello, world!"}]
        call = f".chat.completions.create(model='gpt-3.5-turbo', messages={messages!r})"
        code = {"bare": "pass", "import": f"import {name}; {client}", "first": f"import {name}; {client}{call}"}[mode]
        return [interpreter, "-c", code]

    return Installed(found[name], size, sorted(found.keys() - {name}), folder, command)


def javascript(name: str, folder: Path) -> Installed:
    if name == "helixflow":
        run("npm", "pack", "--silent", "--pack-destination", str(folder), cwd=ROOT / "sdks" / "javascript")
        (folder / "package.json").write_text("{}")
        offline = ("npm", "install", "--silent", "--offline", "--ignore-scripts", "--no-audit", "--no-fund")
        run(*offline, str(next(folder.glob("*.tgz"))), cwd=folder)
    else:
        installed = ROOT / "tests" / "node" / "node_modules" / name
        if not installed.is_dir():
            raise BenchError(f"the Node package {name} is not installed: run `npm ci --prefix tests/node`")
        shutil.copytree(installed, folder / "node_modules" / name)
    modules = folder / "node_modules"
    node = program("node")

    def command(mode: str, base_url: str) -> list[str]:
        if mode == "serve":
            return [node, str(PROGRAMS / "client.cjs"), name, base_url]
        kind = "Client" if name == "helixflow" else "OpenAI"
        client = f"new (require({name!r}).{kind})({{apiKey: 'bench', baseURL: {base_url!r}}})"
        request = "{model: 'gpt-3.5-turbo', messages: [{role: 'user', content: 'Hello, world!'}]}"
        code = {"bare": "", "import": client, "first": f"{client}.chat.completions.create({request})"}[mode]
        return [node, "-e", code]

    found = sorted(path.parent.name for path in modules.glob("*/package.json"))
    version = json.loads((modules / name / "package.json").read_text())["version"]
    return Installed(version, size_of(modules), [each for each in found if each != name], folder, command)


def go(name: str, folder: Path) -> Installed:
    """A program with each, and one with neither that can speak HTTP with TLS, as all that do will be as large."""
    tool = program("go") if shutil.which("go") else "/usr/local/go/bin/go"
    copy = folder / "module"
    (folder / "bare").mkdir()
    (folder / "bare" / "main.go").write_text(BARE_GO)
    shutil.copy(PROGRAMS / "measure.go", folder)
    shutil.copy(PROGRAMS / f"{name}.go", folder)
    (folder / "go.mod").write_text("module bench\n\ngo 1.22\n")
    if name == "helixflow":
        path = "github.com/helixflow/helixflow-go"
        shutil.copytree(ROOT / "sdks" / "go", copy)
        [version] = re.findall(r'const Version = "(.+)"', (copy / "client.go").read_text())
        run(tool, "mod", "edit", f"-require={path}@v{version}", f"-replace={path}=./module", cwd=folder)
    else:
        run(tool, "get", f"{OPENAI_GO}@latest", cwd=folder)
        version = run(tool, "list", "-m", "-f", "{{.Version}}", OPENAI_GO, cwd=folder).strip().removeprefix("v")
    run(tool, "mod", "tidy", cwd=folder)
    for built, source in (("client", "."), ("nothing", "./bare")):
        run(tool, "build", "-trimpath", "-o", built, source, cwd=folder)
    linked = run(tool, "version", "-m", "client", cwd=folder)
    modules = [
        each for each in re.findall(r"\n\tdep\t(\S+)", linked) if "openai-go" not in each and "helixflow" not in each
    ]
    size = (folder / "client").stat().st_size - (folder / "nothing").stat().st_size

    def command(mode: str, base_url: str) -> list[str]:
        return [str(folder / "nothing")] if mode == "bare" else [str(folder / "client"), mode, base_url]

    return Installed(version, size, modules, folder, command)


LANGUAGES: Final = {"python": python, "javascript": javascript, "go": go}
