"""A fake of Google's token service: it gives a token for an assertion that a service account has signed."""

import base64
import json
import threading
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

EMAIL = "gateway@our-project.iam.gserviceaccount.com"
AUDIENCE = "https://oauth2.googleapis.com/token"  # whatever the address that is asked
SCOPE = "https://www.googleapis.com/auth/cloud-platform"


@cache
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def private_pem() -> str:
    none = serialization.NoEncryption()
    return key().private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none).decode()


class TokenService:
    """Tokens are ``ya29.fake-1`` and so on. ``failure``: what is answered instead, a status and a body. While ``open``
    is cleared nothing is answered; ``asked`` is set once something was asked. ``refused`` holds what was wrong."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.expires_in = 3600
        self.failure: tuple[int, bytes] | None = None
        self.requests = 0
        self.refused: list[str] = []
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Event()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = service.answer(self.path, body)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/token"

    def service_account(self, **changes: object) -> str:
        """Its key, as Google hands it out."""
        return json.dumps(
            {
                "type": "service_account",
                "project_id": "our-project",
                "private_key_id": "0123456789abcdef",
                "private_key": private_pem(),
                "client_email": EMAIL,
                "token_uri": self.url,
            }
            | changes
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.open.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        self.requests += 1
        self.asked.set()
        self.open.wait(20)
        if self.failure is not None:
            return self.failure
        if wrong := self._wrong(path, body.decode()):
            self.refused.append(wrong)
            return 400, json.dumps({"error": "invalid_grant", "error_description": wrong}).encode()
        self.tokens.append(f"ya29.fake-{len(self.tokens) + 1}")
        return 200, json.dumps(
            {"access_token": self.tokens[-1], "expires_in": self.expires_in, "token_type": "Bearer"}
        ).encode()

    def _wrong(self, path: str, body: str) -> str:
        form = parse_qs(body)
        if path != "/token" or form.get("grant_type") != ["urn:ietf:params:oauth:grant-type:jwt-bearer"]:
            return "not a grant by JWT"
        head, payload, signature = form["assertion"][0].split(".")
        try:
            signed = f"{head}.{payload}".encode()
            key().public_key().verify(_decode(signature), signed, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return "the signature is not valid"
        claims: dict[str, Any] = json.loads(_decode(payload))
        if (claims["iss"], claims["aud"], claims["scope"]) != (EMAIL, AUDIENCE, SCOPE):
            return f"wrong claims {claims}"
        if not claims["iat"] - 60 <= time.time() <= claims["exp"] <= claims["iat"] + 3600:
            return f"wrong times {claims}"
        return ""


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
