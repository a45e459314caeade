"""What came of a batch's requests, as ``/v1/batches/{id}/results`` and the lines of output and error files tell it."""

from typing import Any, Final

import msgspec

from inference.batch import sealing
from inference.batch.sealing import Box
from inference.batch_models import BatchItem

CANCELLED: Final = "batch_cancelled"
EXPIRED: Final = "batch_expired"

# Of requests that were never answered, by the code in their row.
_WHY: Final = {
    CANCELLED: "The batch was cancelled before this request was made.",
    EXPIRED: "The batch's 24 hours were over before this request was made. Retry the batch.",
    "insufficient_quota": "The monthly quota or budget was spent before this request was made. Retry the batch once "
    "there is more.",
    "invalid_api_key": "The batch's API key was revoked or had expired before this request was made. Retry the batch "
    "with another key.",
    "authorization_failed": "The batch's API key was not allowed to make this request.",
    "timeout": "The model did not answer in time.",
    "service_unavailable": "No upstream of the model could answer. Retry the batch.",
}
_NOTHING: Final = "This request failed. Retry the batch, and tell support if it stays."
_DAMAGED: Final = {"code": "server_error", "message": "This answer cannot be read any more. Tell support."}

_encode = msgspec.json.Encoder().encode


def result_of(item: BatchItem, box: Box) -> dict[str, Any]:
    """Of an item that is settled: ``response`` if it was answered, ``error`` if it failed.

    Bodies of answers are ``msgspec.Raw``: JSON as it came, for msgspec to encode.
    """
    try:
        response = _response(item, box)
    except sealing.Unopenable:  # damaged: the others must not be lost with it
        return {"id": item.public_id, "custom_id": item.custom_id, "response": None, "error": dict(_DAMAGED)}
    return {
        "id": item.public_id,
        "custom_id": item.custom_id,
        "response": response,
        "error": _error(item, response),
    }


def line_of(item: BatchItem, box: Box) -> bytes:
    """As a line of an output or error file, with its end."""
    return _encode(result_of(item, box)) + b"\n"


def _response(item: BatchItem, box: Box) -> dict[str, Any] | None:
    if item.status_code is None or item.answer is None:
        return None
    answer = box.open(bytes(item.answer), sealing.answer_label(item.position))
    return {"status_code": item.status_code, "request_id": item.request_id, "body": _body(answer)}


def _body(answer: bytes) -> Any:
    """Left as it is: nothing is rounded or put into another order on the way."""
    try:
        msgspec.json.decode(answer, type=msgspec.Raw)
    except msgspec.DecodeError:  # a proxy's page, say
        return answer.decode(errors="replace")
    return msgspec.Raw(answer)


def _error(item: BatchItem, response: dict[str, Any] | None) -> dict[str, str] | None:
    if not item.error_code:
        return None
    return {"code": item.error_code, "message": _told(response) or _WHY.get(item.error_code, _NOTHING)}


def _told(response: dict[str, Any] | None) -> str:
    if response is None or not isinstance(response["body"], msgspec.Raw):
        return ""
    try:
        return msgspec.json.decode(response["body"], type=_Refusal).error.message
    except msgspec.DecodeError:
        return ""


class _Reason(msgspec.Struct):
    message: str


class _Refusal(msgspec.Struct):
    error: _Reason
