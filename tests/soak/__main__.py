"""`make soak`: minutes of it, on servers of its own. A failure prints the seed to replay."""

import argparse
import os
import random
import sys

import django
from django.core.management import call_command


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--workers", type=int, default=2, help="web processes (default 2)")
    options = parser.parse_args()
    print(f"Seed {options.seed}, {options.seconds:.0f} s, {options.workers} web processes.", flush=True)

    import tests.services  # noqa: F401  # starts PostgreSQL and Valkey, before Django reads its settings

    os.environ |= {"DJANGO_SETTINGS_MODULE": "helixflow.settings", "HELIXFLOW_LOG_LEVEL": "WARNING"}
    django.setup()
    call_command("migrate", verbosity=0)
    from tests.soak.run import soak  # models can be imported only now

    report = soak(seed=options.seed, seconds=options.seconds, workers=options.workers)
    print(f"{report.calls} calls: " + ", ".join(f"{count} {what}" for what, count in report.outcomes.most_common()))
    for problem in report.problems:
        print(f"\n✗ {problem}")
    if report.problems:
        print(f'\nReplay: make soak ARGS="--seed {options.seed} --seconds {options.seconds:g}"')
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
