"""What `make check` asks of the tree itself: locks in step, variables documented, modules small, links alive.

Each ``…_problems`` gives one line per problem, with the place to mend it.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LINES_AT_MOST = 450  # 400 is the aim

# Promised to those who run HelixFlow: renaming or dropping one breaks their installation.
PROMISED = {
    *("HELIXFLOW_ENV", "HELIXFLOW_HOST", "HELIXFLOW_PORT", "HELIXFLOW_PUBLIC_URL", "HELIXFLOW_DATA_DIR"),
    *("HELIXFLOW_WEB_PROCESSES", "DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "CHANNELS_REDIS_URL", "CACHE_URL"),
    *("HELIXFLOW_SECRET_KEY", "HELIXFLOW_JWT_KEY", "HELIXFLOW_ENCRYPTION_KEYS", "HELIXFLOW_KEY_PEPPERS"),
    *("HELIXFLOW_TRUSTED_PROXIES", "HELIXFLOW_CORS_ORIGINS", "HELIXFLOW_WEBHOOK_ALLOW_LOOPBACK"),
    *("HELIXFLOW_METRICS_TOKEN", "EMAIL_URL", "OPENAI_API_KEY"),
}
OF_CALLERS = {"HELIXFLOW_API_KEY"}  # read by the programs of the snippets, which the pages show; not by HelixFlow
# Packages that cannot leave without the one that is declared: they are part of its interface.
COMPANIONS = {
    "asgiref": "django",
    "jwt": "djangorestframework-simplejwt",
    "kombu": "celery",
    "packaging": "pytest",
    "typing_extensions": "openai",
}
_VARIABLE = re.compile(r'(?:env\.\w+\(\s*"|"(?=HELIXFLOW_[A-Z]))([A-Z][A-Z0-9_]+)"')


@cache
def files(*patterns: str) -> list[Path]:
    """Files of the tree, tracked or about to be, as git sees them."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for line in listed.stdout.splitlines() if (path := ROOT / line).is_file()]


def lock_problems() -> Iterator[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime = project["project"]["dependencies"]
    embedded = project["project"]["optional-dependencies"]["embedded"]
    wanted = {
        "requirements/runtime.txt": runtime,
        "requirements/run.txt": [*runtime, *embedded],
        "requirements/dev.txt": [*runtime, *embedded, *project["dependency-groups"]["dev"]],
    }
    smaller: dict[str, str] = {}
    for name, requirements in wanted.items():
        text = (ROOT / name).read_text()
        locked = _locked(text)
        for requirement in map(Requirement, requirements):
            version = locked.get(canonicalize_name(requirement.name))
            if version is None:
                yield f"{name}: {requirement.name} of pyproject.toml is missing. Run `make lock`."
            elif version not in requirement.specifier:
                yield f"{name}: {requirement.name} {version} is not {requirement.specifier}. Run `make lock`."
        for package, version in smaller.items():
            if locked.get(package) != version:
                yield f"{name}: {package} is not at {version}, as in the smaller locks. Run `make lock`."
        if text.count("\n    --hash=sha256:") < len(locked):
            yield f"{name}: a package has no hash."
        if re.search(r"https?://|--(extra-)?index-url|--find-links", text):
            yield f"{name}: names the address of an index."
        smaller = locked


def dependency_problems() -> Iterator[str]:
    """What is imported is declared: a package that merely comes along with another can leave with it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    runtime = {canonicalize_name(Requirement(line).name) for group in groups for line in group}
    development = {canonicalize_name(Requirement(line).name) for line in project["dependency-groups"]["dev"]}
    known = packages_distributions()
    for path in files("*.py"):
        folder = path.relative_to(ROOT).parts[0]
        if folder == "sdks":
            continue
        declared = runtime | development if folder in {"tests", "bench"} else runtime
        for package in sorted(_imported(path)):
            names = [*known.get(package, ()), COMPANIONS.get(package, "")]
            if not {canonicalize_name(name) for name in names} & declared:
                yield f"{path.relative_to(ROOT)}: imports {package}, which pyproject.toml does not declare."


def _imported(path: Path) -> set[str]:
    """Packages of others that a module imports, by their first name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    ours = {entry.name for entry in ROOT.iterdir() if entry.is_dir()}
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - ours


def _locked(text: str) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)", text, re.MULTILINE)
    return {canonicalize_name(package): version for package, version in found}


@cache
def variables_read() -> frozenset[str]:
    """The environment variables that the product reads: names given to ``helixflow.lib.env``, and any of our own."""
    return frozenset(
        name
        for path in files("*.py")
        if path.relative_to(ROOT).parts[0] not in {"tests", "bench", "sdks"}
        for name in _VARIABLE.findall(path.read_text())
        if name not in OF_CALLERS
    )


def environment_problems() -> Iterator[str]:
    read = variables_read()
    example = set(re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    documented = set(re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)`", (ROOT / "docs/configuration.md").read_text()))
    for name in sorted(PROMISED - read):
        yield f"{name} is promised, but nothing reads it."
    for name in sorted(read - example):
        yield f".env.example: {name} is read by the code and missing here."
    for name in sorted(example - read):
        yield f".env.example: {name} is read by nothing."
    for name in sorted(read - documented):
        yield f"docs/configuration.md: {name} is read by the code and missing here."


def size_problems() -> Iterator[str]:
    for path in files("*.py"):
        lines = path.read_text().count("\n")
        if lines > LINES_AT_MOST and "migrations" not in path.parts:
            yield f"{path.relative_to(ROOT)}: {lines} lines, at most {LINES_AT_MOST}. Is there a seam?"


def link_problems() -> Iterator[str]:
    """Relative links of Markdown files, with their anchors, and pages of docs/ that the code points to."""
    for page in files("*.md"):
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            place, _, anchor = target.partition("#")
            linked = (page.parent / place) if place else page
            if not linked.exists():
                yield f"{page.relative_to(ROOT)}: {target} does not exist."
            elif anchor and anchor not in _anchors(linked):
                yield f"{page.relative_to(ROOT)}: {target} has no such heading."
    for path in files("*.py", "*.html", "*.toml", "Makefile", ".env.example"):
        for target in re.findall(r"docs/[\w/-]+\.md", path.read_text()):
            if not (ROOT / target).exists():
                yield f"{path.relative_to(ROOT)}: {target} does not exist."


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
