"""`python -m bench.dashboard`: how quickly the dashboard's pages come with a million records behind them.

The database of bench.ledger, but the organization that is looked at has 200 keys and 50 members. Each page is asked for
as a browser would ask, signed in; the time is from the request to the last byte, on one core, PostgreSQL on the other.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench import ledger
from bench.processes import ROOT, BenchError, Processes
from helixflow.stack import embedded

KEYS: Final = 200
MEMBERS: Final = 50
ORGANIZATIONS: Final = 5
LIMIT_MS: Final = 100.0
MOST_QUERIES: Final = 12
RESULTS: Final = ROOT / "bench" / "results" / "dashboard.json"
PAGES: Final = (
    "/dashboard",
    "/dashboard/usage",
    "/dashboard/usage?range=24h",
    "/dashboard/usage?range=7d",
    "/dashboard/usage?range=90d&group=key",
    "/dashboard/usage?group=environment&metric=cost",
    "/dashboard/usage?group=status",
    "/dashboard/usage?group=none&metric=latency",
    "/dashboard/requests",
    "/dashboard/api-keys",
    "/dashboard/models",
    "/dashboard/plan",
    "/dashboard/team",
    "/dashboard/settings",
)


@dataclass(frozen=True)
class Answer:
    """``whole_ms`` and ``postgresql_ms`` are medians; ``status``: 404 where this version has no such page."""

    page: str
    status: int
    whole_ms: float
    postgresql_ms: float
    queries: int
    kilobytes: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.dashboard", description=__doc__, allow_abbrev=False)
    parser.add_argument("--records", type=int, default=ledger.RECORDS)
    parser.add_argument("--rounds", type=int, default=11, help="timed answers of each page (default 11)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="helixflow-bench-dashboard-"))
    try:
        with Processes(folder / "output.log") as processes:
            ledger.start(processes, folder)
            answers = run(options)
    except (BenchError, embedded.EmbeddedError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report(answers)
    RESULTS.write_text(json.dumps([asdict(answer) for answer in answers], indent=2) + "\n")
    return 0 if all(is_good(answer) for answer in answers) else 1


def run(options: argparse.Namespace) -> list[Answer]:
    from django.test import Client

    from accounts.models import Membership, Role, User
    from helixflow import assets

    assets.collect()
    ends_at = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    ledger.fill(options.records, ends_at, keys=KEYS, organizations=ORGANIZATIONS)
    owner = User.objects.get(username="bench")
    organization = owner.memberships.get().organization
    names = [f"member{number}@example.com" for number in range(MEMBERS - 1)]
    users = User.objects.bulk_create(User(username=name, email=name, password="!") for name in names)
    Membership.objects.bulk_create(Membership(organization=organization, user=user, role=Role.MEMBER) for user in users)
    browser = Client(SERVER_NAME="127.0.0.1")
    browser.force_login(owner)
    return [ask(browser, page, options.rounds) for page in PAGES]


def ask(browser: Any, page: str, rounds: int) -> Answer:
    from django.db import connection

    in_postgresql, queries = 0.0, 0

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal in_postgresql, queries
        began = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            in_postgresql += time.perf_counter() - began
            queries += 1

    whole, part = [], []
    for _ in range(rounds + 2):  # two to warm up
        in_postgresql, queries = 0.0, 0
        began = time.perf_counter()
        with connection.execute_wrapper(watch):
            response = browser.get(page)
        whole.append((time.perf_counter() - began) * 1000)
        part.append(in_postgresql * 1000)
    size = len(response.content) / 1000
    return Answer(page, response.status_code, median(whole), median(part), queries, round(size, 1))


def median(times: list[float]) -> float:
    return round(statistics.median(times[2:]), 1)


def is_good(answer: Answer) -> bool:
    return answer.status == 200 and answer.whole_ms <= LIMIT_MS and answer.queries <= MOST_QUERIES


def report(answers: list[Answer]) -> None:
    print(f"\n{'The dashboard, warm':<50} {'status':>6} {'median ms':>9} {'SQL ms':>8} {'queries':>8} {'kB':>7}")
    for answer in answers:
        times = f"{answer.status:>6} {answer.whole_ms:>9.1f} {answer.postgresql_ms:>8.1f} {answer.queries:>8}"
        print(f"  {answer.page:<48} {times} {answer.kilobytes:>7.1f}{'' if is_good(answer) else '  ← look'}")
    print(f"\nSaved in {RESULTS}")


if __name__ == "__main__":
    sys.exit(main())
