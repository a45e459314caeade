"""The whole application, but it looks twice a second who listens at its sockets."""

from helixflow.asgi import application
from helixflow.server import live

live.RECHECK_S = 0.5  # type: ignore[misc]  # final for everybody else

app = application
