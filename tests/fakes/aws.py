"""AWS as seen from its side of the wire: signatures checked by hand, event streams written, shapes of its own models.

Nothing of botocore but its service models and their validator, so that what our code does with botocore is checked by
something else.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
import struct
import zlib
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import quote

from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

from tests.fakes.behaviours import Received

SKEW_S = 300
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/,]+)/(\d{8})/([a-z0-9-]+)/([a-z]+)/aws4_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})\Z"
)


# Signatures


def signature_problem(
    request: Received, *, key_id: str, secret: str, session_token: str | None, region: str, service: str
) -> str:
    """What AWS would say of the signature; empty if it is right."""
    found = _AUTHORIZATION.match(request.headers.get("authorization", ""))
    if found is None:
        return "Missing Authentication Token"
    said_key, day, said_region, said_service, signed, signature = found.groups()
    stamp = request.headers.get("x-amz-date", "")
    if (said_key, said_region, said_service, day) != (key_id, region, service, stamp[:8]):
        return "The security token included in the request is invalid: its scope is another."
    if request.headers.get("x-amz-security-token") != session_token:
        return "The security token included in the request is invalid."
    when = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if abs((datetime.now(UTC) - when).total_seconds()) > SKEW_S:
        return f"Signature expired: {stamp} is now too far away."
    names = signed.split(";")
    required = {"host"} | {name for name in request.headers if name.startswith("x-amz-") or name == "content-type"}
    if names != sorted(names) or not required <= set(names):
        return "The request signature leaves out headers that it must hold."
    if not hmac.compare_digest(signature, _signature(request, names, secret, f"{day}/{region}/{service}/aws4_request")):
        return "The request signature we calculated does not match the signature you provided."
    return ""


def _signature(request: Received, names: list[str], secret: str, scope: str) -> str:
    path, _, query = request.path.partition("?")
    canonical = "\n".join(
        [
            request.method,
            "/".join(quote(segment, safe="-_.~") for segment in path.split("/")),  # a second time: not for S3
            "&".join(sorted(query.split("&"))),
            *(f"{name}:{' '.join(request.headers[name].split())}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(request.body).hexdigest(),
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    said = "\n".join(["AWS4-HMAC-SHA256", request.headers["x-amz-date"], scope, digest])
    return hmac.new(key, said.encode(), "sha256").hexdigest()


# Event streams


def message(headers: dict[str, str], payload: bytes) -> bytes:
    lines = b"".join(
        struct.pack(">B", len(name)) + name.encode() + b"\x07" + struct.pack(">H", len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(lines) + len(payload), len(lines))
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + lines + payload
    return body + struct.pack(">I", zlib.crc32(body))


def event(name: str, fields: dict[str, Any]) -> bytes:
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return message(headers, json.dumps(fields, ensure_ascii=False).encode())


def exception(name: str, text: str) -> bytes:
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return message(headers, json.dumps({"message": text}).encode())


# Shapes


@cache
def service(name: str) -> ServiceModel:
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)


def shape_problem(value: Any, shape: Any) -> str:
    """What is wrong with JSON as it is on the wire, by AWS's own model; empty if nothing is."""
    try:
        decoded = _decoded(value, shape)
    except (ValueError, TypeError, AttributeError) as error:
        return str(error)
    report: str = ParamValidator().validate(decoded, shape).generate_report()
    return report


def _decoded(value: Any, shape: Any) -> Any:
    """With blobs decoded from base64, and with what botocore's validator leaves to the server checked."""
    if getattr(shape, "is_document_type", False):
        return value
    if shape.type_name == "structure":
        if unknown := value.keys() - shape.members.keys():
            raise ValueError(f"unknown fields {sorted(unknown)} in {shape.name}")
        return {name: _decoded(item, shape.members[name]) for name, item in value.items()}
    if shape.type_name == "list":
        return [_decoded(item, shape.member) for item in value]
    if shape.type_name == "blob":
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ValueError(f"{shape.name}: {error}") from None
    limits = shape.metadata
    if "enum" in limits and value not in limits["enum"]:
        raise ValueError(f"{value!r} is none of {limits['enum']}")
    if "pattern" in limits and not re.fullmatch(limits["pattern"], value):
        raise ValueError(f"{value!r} is not like {limits['pattern']}")
    size = len(value) if isinstance(value, str) else value
    if "max" in limits and size > limits["max"]:
        raise ValueError(f"{shape.name} is over its maximum of {limits['max']}")
    return value
