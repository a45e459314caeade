"""Go's compiler for the SDK and the programs that the docs show. They are built with one cache, which the whole run
shares.

The first to build waits for Go's standard library; whoever builds meanwhile waits for that too, and has it then.
"""

import fcntl
import os
import subprocess
from pathlib import Path

from tests.requirements import require_program

# Without optimisations, which nobody waits for here, and with nothing that has to be downloaded.
ENVIRONMENT = {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod '-gcflags=all=-N -l'", "CGO_ENABLED": "0"}


def go(*arguments: str, folder: Path, timeout_s: float = 250, **environment: str) -> str:
    """What ``go`` with these arguments prints in ``folder``. tests/services.py says where the cache is."""
    program = require_program("go")
    cache = Path(os.environ["GOCACHE"])
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            [program, *arguments],
            cwd=folder,
            env=os.environ | ENVIRONMENT | environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
