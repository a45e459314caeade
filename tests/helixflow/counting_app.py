"""The whole application, with a path that counts a request as the gateway does; served by two workers.

python -m tests.helixflow.counting_app DIRECTORY
"""

import logging
import os
import sys
from pathlib import Path
from typing import Any

from helixflow.asgi import application
from helixflow.lib import metrics
from helixflow.server.workers import Options, run


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope.get("path") != "/count":
        await application(scope, receive, send)
        return
    metrics.observe(
        model="",
        status=200,
        code="",
        streamed=True,
        duration_ms=40,
        first_token_ms=20,
        tokens=(("input", 3), ("output", 5)),
    )
    metrics.in_flight(1)  # and none is ever finished
    metrics.fold()
    body = str(os.getpid()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    sys.exit(run("tests.helixflow.counting_app:app", Options(port=0, workers=2, metrics=Path(sys.argv[1]))))
