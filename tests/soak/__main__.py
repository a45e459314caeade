"""`make soak`: minutes of each scenario, on servers of its own. A failure prints the seed to replay."""

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

import django
from django.core.management import call_command
from django.db import connection

SCENARIOS = ("calm", "kills", "redis-stops", "redis-restarts", "state-machine", "webhooks")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--seconds", type=float, default=120, help="of each scenario (default 120)")
    parser.add_argument("--workers", type=int, default=2, help="web processes (default 2)")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="can be repeated (default: all)")
    parser.add_argument("--examples", type=int, default=400, help="of the state machine (default 400)")
    parser.add_argument("--events", type=int, default=10_000, help="of webhooks (default 10000)")
    options = parser.parse_args()

    import tests.services  # noqa: F401  # starts PostgreSQL and Valkey, before Django reads its settings

    os.environ |= {"DJANGO_SETTINGS_MODULE": "helixflow.settings", "HELIXFLOW_LOG_LEVEL": "ERROR"}
    django.setup()
    call_command("migrate", verbosity=0)
    failed = [scenario for scenario in options.scenario or SCENARIOS if not _passes(scenario, options)]
    for scenario in failed:
        print(
            f'\nReplay: make soak ARGS="--scenario {scenario} --seed {options.seed} --seconds {options.seconds:g} '
            f'--workers {options.workers} --examples {options.examples} --events {options.events}"'
        )
    return 1 if failed else 0


def _passes(scenario: str, options: argparse.Namespace) -> bool:
    print(f"\n{scenario}, seed {options.seed}", flush=True)
    call_command("flush", interactive=False, verbosity=0)
    if scenario == "state-machine":
        return _run_state_machine(options)
    if scenario == "webhooks":
        return _run_webhooks(options)
    from tests.soak.run import soak  # models can be imported only now

    with tempfile.TemporaryDirectory(prefix="helixflow-soak-", ignore_cleanup_errors=True) as folder:
        report = soak(
            seed=options.seed,
            seconds=options.seconds,
            data_dir=Path(folder),
            workers=options.workers,
            scenario=scenario,
            patient=True,
        )
    outcomes = ", ".join(f"{count} {what}" for what, count in report.outcomes.most_common())
    print(f"{report.calls} calls ({outcomes}), {report.kills} kills, {report.records} records,")
    print(f"the last of them settled after {report.settled_after_s:.0f} s.")
    return _is_well(report.problems)


def _is_well(problems: list[str]) -> bool:
    for problem in problems:
        print(f"\n✗ {problem}")
    connection.close()
    return not problems


def _run_webhooks(options: argparse.Namespace) -> bool:
    from tests.soak import webhooks

    with tempfile.TemporaryDirectory(prefix="helixflow-soak-", ignore_cleanup_errors=True) as folder:
        report = webhooks.soak(seed=options.seed, data_dir=Path(folder), events=options.events)
    print(report)
    return _is_well(report.problems)


def _run_state_machine(options: argparse.Namespace) -> bool:
    from tests.billing import state_machine

    try:
        state_machine.run(examples=options.examples, steps=60, seed=options.seed)
    except AssertionError as error:
        print("\n".join([f"✗ {error}", *getattr(error, "__notes__", ())]))
        return False
    print(f"{options.examples} examples of 60 steps.")
    return True


if __name__ == "__main__":
    sys.exit(main())
