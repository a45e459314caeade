"""Programs that some tests need and that pip can't bring: a browser, Node, Go.

On a machine without one the test is skipped, with the reason printed; in CI (`CI=true`) it fails, so that nothing
goes untested unnoticed. `.ci/run` installs all of them.
"""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

NODE_PROJECT = Path(__file__).parent / "node"
_ALSO_IN = os.pathsep.join(["/usr/sbin", "/usr/local/sbin", "/usr/local/go/bin"])  # where PATH doesn't always look


def require_program(name: str, *others: str) -> str:
    """The path of a program, by the first of its names that is there."""
    path = os.environ.get("PATH", "") + os.pathsep + _ALSO_IN
    found = next(filter(None, (shutil.which(candidate, path=path) for candidate in (name, *others))), None)
    if found is None:
        missing(f"{name} is not installed")
    return found


def require_browser() -> str:
    return require_program("chromium", "chromium-browser", "google-chrome")


def require_node_package(name: str) -> Path:
    """The folder to run Node scripts in that import ``name``, one of the packages of tests/node/package.json."""
    require_program("node")
    if not (NODE_PROJECT / "node_modules" / name).is_dir():
        missing(f"the Node package {name} is not installed: run `npm ci --prefix tests/node`")
    return NODE_PROJECT


def missing(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and in CI nothing may be missing", pytrace=False)
    pytest.skip(reason)
