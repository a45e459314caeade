"""What an answer to a request of a batch means for it, and for the batch. Pure."""

from enum import Enum, auto
from typing import Final

import msgspec

from inference.batch.sending import Answer, Sent

COUNTED: Final = "x-ratelimit-limit-month"  # on answers to requests that admission, with Redis, has counted
UNKNOWN: Final = "server_error"
MAX_CODE: Final = 40
LONGEST_RETRY_S: Final = 3600.0


class Verdict(Enum):
    """The first two are outcomes. Of the others the request waits on; all but ``AGAIN`` concern the whole batch."""

    COMPLETED = auto()
    FAILED = auto()
    AGAIN = auto()  # it failed in a way that may pass: its tries are counted
    LIMIT = auto()  # the minute, or what may be under way at once
    QUOTA = auto()
    KEY = auto()  # refused: revoked, expired
    FORBIDDEN = auto()  # the model is not for this key, or the organization is disabled: that is to be found out
    SERVICE = auto()  # the gateway, or what it stands on, is away: no try
    UNSENT = auto()


def judge(sent: Sent) -> Verdict:
    answer = sent.answer
    if sent.unsent:
        return Verdict.UNSENT
    if sent.unreadable:
        return Verdict.FAILED
    if answer is None or (not answer.is_ours and answer.status >= 400):
        return Verdict.SERVICE
    if answer.status == 200:
        return Verdict.FAILED if answer.too_long else Verdict.COMPLETED
    if answer.status >= 500:
        return Verdict.AGAIN if COUNTED in answer.headers else Verdict.SERVICE
    match answer.status, error_code(answer):
        case 429, "insufficient_quota":
            return Verdict.QUOTA
        case 429, _:
            return Verdict.LIMIT
        case 401, _:
            return Verdict.KEY
        case 403, _:
            return Verdict.FORBIDDEN
    return Verdict.FAILED


def error_code(answer: Answer) -> str:
    try:
        code = msgspec.json.decode(answer.body, type=_Refusal).error.code
    except msgspec.DecodeError:
        return UNKNOWN
    return code[:MAX_CODE]


def retry_after_s(answer: Answer | None) -> float:
    """0: nothing is said. The gateway says whole seconds."""
    said = answer.headers.get("retry-after", "") if answer else ""
    return min(float(said), LONGEST_RETRY_S) if said.isascii() and said.isdigit() else 0.0


class _Reason(msgspec.Struct):
    code: str


class _Refusal(msgspec.Struct):
    error: _Reason
