"""Static files as plain ASGI, from WhiteNoise's index: compressed, cached for ever when their name holds their hash.

As Django middleware WhiteNoise is synchronous: under ASGI every file would take a thread and be read whole into a
list, a tenth as fast (docs/server.md). Its index and its answers know nothing of Django, so only the sending is ours.
"""

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from whitenoise.middleware import WhiteNoiseMiddleware

from helixflow.lib import ids

CHUNK = 64 * 1024
USED = {b"accept-encoding", b"if-modified-since", b"if-none-match", b"range"}


class StaticFiles:
    """Answers what is a static file, and hands everything else to ``app``."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.prefix = urlsplit(settings.STATIC_URL).path
        self.index = WhiteNoiseMiddleware()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        found = None
        if path.startswith(self.prefix):
            found = self.index.find_file(path) if self.index.autorefresh else self.index.files.get(path)
        if found is None:
            await self.app(scope, receive, send)
            return
        asked = {
            f"HTTP_{name.decode('ascii').upper().replace('-', '_')}": value.decode("latin-1")
            for name, value in scope["headers"]
            if name in USED
        }
        await self.send(found.get_response(scope["method"], asked), send)

    @staticmethod
    async def send(response: Any, send: Any) -> None:
        headers = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in response.headers]
        headers += [(b"x-content-type-options", b"nosniff"), (b"x-request-id", ids.new_id(ids.REQUEST).encode())]
        await send({"type": "http.response.start", "status": int(response.status), "headers": headers})
        if response.file is not None:
            with response.file as file:
                while chunk := file.read(CHUNK):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
