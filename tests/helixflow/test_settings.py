"""What settings make of the environment, in a process of its own."""

import json
import os
import subprocess
import sys

from tests import tree


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
    url = "postgresql://u:p@db.example/helixflow?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem"
    options = setting('DATABASES["default"]["OPTIONS"]', DATABASE_URL=url)
    assert options == {
        "connect_timeout": 2,
        "application_name": "helixflow",
        "sslmode": "verify-full",
        "sslrootcert": "/etc/ca.pem",
    }
