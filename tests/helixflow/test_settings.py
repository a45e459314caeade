"""What settings make of the environment, in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

from tests import tree
from tests.checks import PRODUCTION


def setting(expression: str, **environment: str) -> object:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import json; from helixflow import settings; print(json.dumps(settings.{expression}))",
        ],
        cwd=tree.ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


def test_the_options_of_a_database_url_reach_the_driver() -> None:
    url = "postgresql://u:p@db.example/helixflow?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem&connect_timeout=9"
    options = setting('DATABASES["default"]["OPTIONS"]', DATABASE_URL=url)
    assert isinstance(options, dict)
    assert (options["sslmode"], options["sslrootcert"]) == ("verify-full", "/etc/ca.pem")
    assert options["connect_timeout"] == "9"
    assert options["application_name"] == "helixflow"


@pytest.mark.parametrize("name", ["HELIXFLOW_SECRET_KEY", "HELIXFLOW_JWT_KEY", "HELIXFLOW_KEY_PEPPERS"])
def test_a_secret_that_can_be_guessed_is_refused_in_production(name: str) -> None:
    assert setting("PRODUCTION", **PRODUCTION) is True
    short = f"{'x' * 40},short" if name.endswith("S") else "short"
    with pytest.raises(subprocess.CalledProcessError) as refused:
        setting("PRODUCTION", **PRODUCTION | {name: short})
    last = refused.value.stderr.strip().splitlines()[-1]
    assert f"{name} must have at least 32 characters" in last
    assert "short" not in last


def test_the_currency_is_a_code_of_three_capitals() -> None:
    assert setting("CURRENCY", HELIXFLOW_CURRENCY="") == "USD"
    assert setting("CURRENCY", HELIXFLOW_CURRENCY="EUR") == "EUR"
    with pytest.raises(subprocess.CalledProcessError) as refused:
        setting("CURRENCY", HELIXFLOW_CURRENCY="euro")
    assert "HELIXFLOW_CURRENCY must be three capital letters" in refused.value.stderr


def test_the_limits_clock_is_redis_s_in_production() -> None:
    assert setting("CLOCK_OFFSET_S", HELIXFLOW_CLOCK_OFFSET_S="-60") == -60
    with pytest.raises(subprocess.CalledProcessError) as refused:
        setting("CLOCK_OFFSET_S", **PRODUCTION | {"HELIXFLOW_CLOCK_OFFSET_S": "60"})
    assert "HELIXFLOW_CLOCK_OFFSET_S must be 0" in refused.value.stderr
