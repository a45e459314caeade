"""Types of what is sent (``requests``) and of what comes back (``responses``)."""

from helixflow.types.requests import *  # noqa: F403
from helixflow.types.responses import *  # noqa: F403
