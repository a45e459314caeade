"""`make check`: everything that can be told about the tree without running it. `ARGS="mypy links"` chooses by name.

Needs no server and no network. Settings are read in a temporary data directory and without the caller's environment.
"""

import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet

from tests import tree

BIN = Path(sys.executable).parent
TIMEOUT_S = 300

PRODUCTION = {
    "HELIXFLOW_ENV": "production",
    "HELIXFLOW_PUBLIC_URL": "https://api.helixflow.example",
    "HELIXFLOW_SECRET_KEY": "made-up-for-the-check-0123456789-abcdefghijklmnopqrstuvwxyz",
    "HELIXFLOW_JWT_KEY": "another-made-up-for-the-check-0123456789-abcdefghijklmnopq",
    "HELIXFLOW_KEY_PEPPERS": "a-third-made-up-for-the-check-0123456789-abcdefghijklmnopq",
    "HELIXFLOW_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
    "DATABASE_URL": "postgresql://helixflow:made-up@db.example/helixflow",
    "REDIS_URL": "rediss://:made-up@redis.example/0",
    "HELIXFLOW_TRUSTED_PROXIES": "1",
    "EMAIL_URL": "smtp+tls://helixflow:made-up@mail.example",
}


@dataclass(frozen=True)
class Result:
    name: str
    seconds: float
    problems: str  # empty: it passed


def clean_environment(data_dir: str) -> dict[str, str]:
    """The caller's environment without what HelixFlow reads, so that the same tree gives the same answers."""
    kept = {name: value for name, value in os.environ.items() if name not in tree.variables_read()}
    return kept | {"HELIXFLOW_DATA_DIR": data_dir, "PYTHONDONTWRITEBYTECODE": "1"}


def command(environment: dict[str, str], program: str, *arguments: str) -> str:
    """What a tool of this virtual environment says, if it is not content."""
    done = subprocess.run(
        [str(BIN / program), *arguments],
        cwd=tree.ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return (done.stdout.strip() or f"ended with code {done.returncode}") if done.returncode else ""


def checks(environment: dict[str, str]) -> dict[str, Callable[[], str]]:
    """By name, the slowest first, since they run side by side."""
    run = functools.partial(command, environment)
    manage = functools.partial(run, "python", "-W", "ignore", "manage.py")
    deploy = functools.partial(command, environment | PRODUCTION, "python", "manage.py", "check")
    templates = [str(path) for path in tree.files("templates/*.html", "*/templates/*.html")]
    return {
        "mypy": lambda: run("mypy", "--num-workers", str(min(os.cpu_count() or 1, 4)), "."),
        "djlint": lambda: run("djlint", "--lint", "--quiet", *templates) if templates else "",
        "deploy": lambda: deploy("--deploy", "--fail-level", "WARNING"),
        "migrations": lambda: manage("makemigrations", "--check", "--dry-run"),
        "imports": lambda: run("lint-imports", "--no-cache", "--no-logo"),
        "djade": lambda: run("djade", "--check", "--target-version", "5.2", *templates) if templates else "",
        "ruff": lambda: run("ruff", "check", "."),
        "format": lambda: run("ruff", "format", "--check", "."),
        "locks": lambda: "\n".join(tree.lock_problems()),
        "dependencies": lambda: "\n".join(tree.dependency_problems()),
        "environment": lambda: "\n".join(tree.environment_problems()),
        "size": lambda: "\n".join(tree.size_problems()),
        "links": lambda: "\n".join(tree.link_problems()),
        "sdk": lambda: python_sdk(run),
    }


def python_sdk(run: Callable[..., str]) -> str:
    """The SDK for Python by its own rules, those of Python 3.9 among them."""
    home = "sdks/python"
    return "\n".join(
        filter(
            None,
            [
                run("ruff", "check", home),
                run("ruff", "format", "--check", home),
                run("vermin", "--target=3.9-", "--quiet", "--no-tips", "--violations", f"{home}/src"),
                run("mypy", "--config-file", f"{home}/pyproject.toml", f"{home}/src", f"{home}/tests/typed.py"),
            ],
        )
    )


def timed(name: str, check: Callable[[], str]) -> Result:
    started = time.monotonic()
    try:
        problems = check()
    except subprocess.TimeoutExpired:
        problems = f"did not end within {TIMEOUT_S} s"
    return Result(name, time.monotonic() - started, problems)


def main(chosen: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="helixflow-checks-") as data_dir:
        known = checks(clean_environment(data_dir))
        if unknown := set(chosen) - set(known):
            print(f"No such check: {', '.join(sorted(unknown))}. There are: {', '.join(known)}.")
            return 2
        failed = []
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
            running = [pool.submit(timed, name, known[name]) for name in chosen or known]
            for done in as_completed(running):
                result = done.result()
                print(f"{'FAILED' if result.problems else 'ok':>6}  {result.seconds:5.1f} s  {result.name}", flush=True)
                if result.problems:
                    failed.append(result)
    for result in failed:
        print(f"\n── {result.name} ──\n{result.problems}")
    print(f"\n{len(failed)} of {len(running)} checks failed." if failed else f"\nAll {len(running)} checks passed.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
