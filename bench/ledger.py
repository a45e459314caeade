"""`python -m bench.ledger`: how quickly the usage API answers over a million records.

A throw-away PostgreSQL with its defaults is filled with three months of 50 organizations, of which one has 400,000
records, and the sums that the meter would have kept. Then the API is asked as a dashboard would: the whole answer is
timed, from the request to the bytes, and what PostgreSQL took of it; its plans are checked for scans of whole tables.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from bench.processes import ROOT, BenchError, Processes, cores, manage
from helixflow.stack import embedded

RECORDS: Final = 1_000_000
ORGANIZATIONS: Final = 50
KEYS: Final = 4  # of each
BIG_SHARE: Final = 0.4  # of the first one
DAYS: Final = 90
LIMIT_MS: Final = 50.0
RESULTS: Final = ROOT / "bench" / "results" / "ledger.json"

# In the order of their ids, as records come. Each organization has a few keys and four models, used unevenly.
FILL_RECORDS: Final = """
INSERT INTO billing_usagerecord (
    id, organization_id, api_key_id, user_id, month, units, model, deployment, attempts, status, error_code, streamed,
    end_user, usage_source, input_tokens, cached_input_tokens, cache_write_tokens, input_audio_tokens, output_tokens,
    reasoning_tokens, output_audio_tokens, price_id, currency, cost, duration_ms, first_token_ms, settled_by,
    recorded_at)
SELECT
    (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0')
        || '7' || substr(noise, 1, 3) || '8' || substr(noise, 4, 15))::uuid,
    organization_id, md5(organization_id::text || 'key' || key)::uuid, NULL, date_trunc('month', at, 'UTC')::date,
    CASE WHEN ending <= 2 THEN 1 ELSE 0 END, 'model-' || model, 'deployment-' || model,
    jsonb_build_array(jsonb_build_object('deployment', 'deployment-' || model, 'outcome', 'ok', 'duration_ms', 500)),
    (ARRAY[200, 499, 503, 503, 400, 500, 502])[ending],
    (ARRAY['', 'client_disconnected', 'timeout', 'service_unavailable', 'invalid_request', 'server_error',
        'odd_one_out'])[ending],
    n %% 2 = 0, CASE WHEN n %% 3 = 0 THEN 'user-' || n %% 5000 ELSE '' END, 'provider',
    100 + n %% 900, n %% 50, 0, 0, 50 + n %% 200, 0, 0, NULL, 'USD', (n %% 1000) * 0.000012345,
    200 * exp(4 * random()), CASE WHEN n %% 2 = 0 THEN 50 * exp(3 * random()) END, 'gateway', at
FROM (
    SELECT n, %(start)s::timestamptz + n * (%(days)s * interval '1 day' / %(records)s) AS at, md5(n::text) AS noise,
        organizations[CASE WHEN random() < %(big)s THEN 1 ELSE 2 + floor(random() * (%(organizations)s - 1))::int END]
            AS organization_id,
        floor(%(keys)s * random() * random())::int AS key, floor(4 * random() * random())::int AS model,
        width_bucket(random(), ARRAY[0, 0.96, 0.97, 0.98, 0.99, 0.9999, 0.99999]) AS ending
    FROM generate_series(0, %(records)s - 1) n,
        (SELECT array_agg(id ORDER BY id) AS organizations FROM accounts_organization) o
) AS drawn
"""
FILL_KEYS: Final = """
INSERT INTO accounts_apikey (id, organization_id, name, environment, digest, hint, created_at, is_playground)
SELECT md5(o.id::text || 'key' || key)::uuid, o.id, 'key ' || key, 'production',
    sha256((o.id::text || key)::bytea), 'hflow_', now(), false
FROM accounts_organization o, generate_series(0, %(keys)s - 1) key
"""
# As billing.metering.rollups would: bucket i of a histogram is from 2^((i-1)/4) ms up to 2^(i/4).
FILL_HOURS: Final = """
INSERT INTO billing_usagehour (organization_id, hour, api_key_id, model, deployment, requests, units, failures,
    prompt_tokens, cached_tokens, completion_tokens, cost, duration_histogram, first_token_histogram)
SELECT organization_id, date_trunc('hour', recorded_at, 'UTC'), api_key_id, model, deployment, count(*), sum(units),
    coalesce((SELECT jsonb_object_agg(code, times) FROM (
        SELECT code, count(*) AS times FROM unnest(array_agg(error_code)) code WHERE code <> '' GROUP BY code) f),
        '{}'),
    sum(input_tokens + cached_input_tokens), sum(cached_input_tokens), sum(output_tokens), sum(cost),
    pg_temp.histogram(array_agg(duration_ms)), pg_temp.histogram(array_agg(first_token_ms))
FROM billing_usagerecord GROUP BY 1, 2, 3, 4, 5
"""
HISTOGRAM: Final = """
CREATE FUNCTION pg_temp.histogram(double precision[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    counts bigint[] := '{}';
    ms double precision;
    bucket int;
BEGIN
    FOREACH ms IN ARRAY $1 LOOP
        CONTINUE WHEN ms IS NULL;
        bucket := 2 + floor(4 * log(2, ms::numeric))::int;
        WHILE cardinality(counts) < bucket LOOP counts := counts || 0::bigint; END LOOP;
        counts[bucket] := counts[bucket] + 1;
    END LOOP;
    RETURN counts;
END $$
"""
FILL_MONTHS: Final = """
INSERT INTO billing_usagemonth (organization_id, month, api_key_id, requests, units, cost)
SELECT organization_id, month, api_key_id, count(*), sum(units), sum(cost) FROM billing_usagerecord GROUP BY 1, 2, 3
"""


@dataclass(frozen=True)
class Question:
    what: str
    path: str
    query: dict[str, str]


@dataclass
class Answer:
    """Milliseconds of one answer: medians of the whole and of its SQL, and the processors' time, ours and PostgreSQL's.

    The latter does not grow while other work on the machine makes both wait. ``scans``: tables that a plan read whole.
    """

    what: str
    whole_ms: float
    postgresql_ms: float
    busy_ms: float
    indexes: list[str] = field(default_factory=list)
    scans: list[str] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger", description=__doc__, allow_abbrev=False)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--rounds", type=int, default=15, help="timed answers to each question (default 15)")
    parser.add_argument("--plans", action="store_true", help="print PostgreSQL's plans too")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="helixflow-bench-ledger-"))
    try:
        with Processes(folder / "output.log") as processes:
            start(processes, folder)
            answers = run(options)
    except (BenchError, embedded.EmbeddedError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report(answers)
    RESULTS.write_text(json.dumps([asdict(answer) for answer in answers], indent=2) + "\n")
    return 0 if all(answer.whole_ms <= LIMIT_MS and not answer.scans for answer in answers) else 1


def start(processes: Processes, folder: Path) -> None:
    """PostgreSQL and Valkey on one core, this process on the other."""
    core, other = cores()
    os.sched_setaffinity(0, {core})
    os.environ |= {
        "HELIXFLOW_ENV": "development",
        "HELIXFLOW_DATA_DIR": str(folder),
        "HELIXFLOW_LOG_LEVEL": "WARNING",
        "DJANGO_SETTINGS_MODULE": "helixflow.settings",
        "DATABASE_URL": processes.service(embedded.postgresql(folder, port=embedded.free_port()), other),
        "REDIS_URL": processes.service(embedded.valkey(folder, port=embedded.free_port()), other),
    }
    manage(dict(os.environ), "migrate", "--verbosity", "0")
    import django

    django.setup()  # settings are read from the environment made above


def run(options: argparse.Namespace) -> list[Answer]:
    from django.test import Client

    ends_at = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    client = Client(headers={"Authorization": f"Bearer {fill(options.records, ends_at)}"}, SERVER_NAME="127.0.0.1")
    return [ask(client, question, options) for question in questions(client, ends_at)]


def fill(records: int, ends_at: datetime, *, keys: int = KEYS, organizations: int = ORGANIZATIONS) -> str:
    """An access token of somebody in the big organization."""
    import time_machine
    from django.db import connection

    from accounts import jwt, services, sessions
    from accounts.models import Membership, Organization
    from billing.metering import partitions

    began = time.monotonic()
    start = ends_at - timedelta(days=DAYS)
    print(f"Making {records:,} records of {DAYS} days …", flush=True)
    user = services.register(username="bench", email="bench@example.com", password="correct horse 42")
    big = user.memberships.get().organization
    Organization.objects.bulk_create(Organization(name=f"Organization {n}") for n in range(1, organizations))
    assert Organization.objects.earliest("id") == big
    with time_machine.travel(start):
        partitions.ensure(months_ahead=DAYS // 28 + 3)
    values: dict[str, Any] = {
        "start": start,
        "days": DAYS,
        "records": records,
        "keys": keys,
        "big": BIG_SHARE,
        "organizations": Organization.objects.count(),
    }
    with connection.cursor() as cursor:
        cursor.execute(FILL_KEYS, values)
        cursor.execute(FILL_RECORDS, values)
        cursor.execute(HISTOGRAM)
        cursor.execute(FILL_HOURS)
        cursor.execute(FILL_MONTHS)
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("SELECT count(*), pg_size_pretty(sum(pg_column_size(h))) FROM billing_usagehour h")
        hours, size = cursor.fetchone()
    print(f"… and {hours:,} hourly sums ({size}), in {time.monotonic() - began:.0f} s.", flush=True)
    assert Membership.objects.filter(user=user, organization=big).exists()
    return jwt.access_token(sessions.start(user=user, address="127.0.0.1", user_agent="bench"))


def questions(client: Any, ends_at: datetime) -> list[Question]:
    def moment(days: int) -> str:
        return (ends_at - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")

    keys = sorted(client.get("/v1/usage").json()["data"]["keys"], key=lambda key: key["requests"])
    busy, quiet = keys[-1]["id"], keys[0]["id"]
    series, requests = "/v1/usage/timeseries", "/v1/requests"
    month = {"start": moment(30), "end": moment(0)}
    last = {"limit": "50"}
    return [
        Question("this month, by key", "/v1/usage", {}),
        Question("a month by day and model", series, month | {"group_by": "model"}),
        Question("a month by day and key", series, month | {"group_by": "key"}),
        Question("a month by day", series, month),
        Question("a month by day, one key and model", series, month | {"api_key": busy, "model": "model-1"}),
        Question("a week by hour and model", series, {"start": moment(7), "bucket": "hour", "group_by": "model"}),
        Question("last 50 requests", requests, last),
        Question("… of a key that succeeded", requests, last | {"api_key": busy, "status": "success"}),
        Question("… of a key that failed", requests, last | {"api_key": busy, "status": "failed"}),
        Question("… of a key with status 503", requests, last | {"api_key": busy, "status": "503"}),
        Question("… of a quiet key with a rare status", requests, last | {"api_key": quiet, "status": "500"}),
        Question("… with a rare status", requests, last | {"status": "502"}),
        Question("… with a status that never was", requests, last | {"api_key": busy, "status": "418"}),
        Question("… with a rare error code", requests, last | {"error_code": "odd_one_out"}),
        Question("… of an end user", requests, last | {"end_user": "user-42"}),
        Question("… of a model that never was", requests, last | {"model": "model-9"}),
        Question("… of a day two months ago", requests, last | {"since": moment(60), "until": moment(59)}),
    ]


def ask(client: Any, question: Question, options: argparse.Namespace) -> Answer:
    from django.db import connection

    statements: list[tuple[str, Any]] = []
    in_postgresql = 0.0

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal in_postgresql
        began = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            in_postgresql += time.perf_counter() - began
            if "billing_usage" in sql:
                statements.append((sql, params))

    whole, part, busy = [], [], 0.0
    for number in range(options.rounds + 2):  # two to warm up
        if number == 2:
            busy = processor_s()
        statements.clear()
        in_postgresql = 0.0
        began = time.perf_counter()
        with connection.execute_wrapper(watch):
            response = client.get(question.path, question.query)
        whole.append((time.perf_counter() - began) * 1000)
        part.append(in_postgresql * 1000)
        if response.status_code != 200:
            raise BenchError(f"{question.what}: {response.status_code} {response.content[:300]!r}")
    busy = processor_s() - busy
    plans = "\n".join(explain(*statement) for statement in statements)
    if options.plans:
        print(f"\n── {question.what} ──\n{plans}")
    return Answer(
        question.what,
        statistics.median(whole[2:]),
        statistics.median(part[2:]),
        busy * 1000 / options.rounds,
        indexes=sorted(set(re.findall(r"(?:using|Scan on) (\w+_(?:idx\d*|newest|unique|pkey))\b", plans))),
        scans=sorted(set(re.findall(r"Seq Scan on (\w+)", plans)) & filled_tables()),
    )


def processor_s() -> float:
    """Processor time so far of this process and the back end it is connected to."""
    from django.db import connection

    if connection.connection is None:
        connection.connect()
    back_end = Path(f"/proc/{connection.connection.info.backend_pid}/schedstat")
    return time.process_time() + int(back_end.read_text().split()[0]) / 1e9


def filled_tables() -> set[str]:
    """An empty partition is best read whole."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND reltuples > 0")
        return {name for (name,) in cursor.fetchall()}


def explain(sql: str, params: Any) -> str:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS) {sql}", params)
        return "\n".join(line for (line,) in cursor.fetchall())


def report(answers: list[Answer]) -> None:
    print(f"\n{'The usage API, warm':<40} {'median ms':>9} {'SQL ms':>8} {'busy ms':>8}   whole tables read")
    for answer in answers:
        times = f"{answer.whole_ms:>9.1f} {answer.postgresql_ms:>8.1f} {answer.busy_ms:>8.1f}"
        late = "  ← too slow" if answer.whole_ms > LIMIT_MS else ""
        print(f"  {answer.what:<38} {times}   {' '.join(answer.scans) or '–'}{late}")
    print(f"\nSaved in {RESULTS}")


if __name__ == "__main__":
    sys.exit(main())
