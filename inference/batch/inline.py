"""``POST /v1/batches``: what is asked for, and the requests that are given inline, each bad one named by its index."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from billing.admission.snapshots import Snapshot
from helixflow.lib import errors
from inference import catalogue, complaints
from inference.batch import lines
from inference.batch.batches import MOST_INLINE
from inference.batch.lines import Line
from inference.batch_models import Operation
from inference.parts import ABSENT, Label
from inference.providers import adapter
from inference.schemas import ShortLabel

MOST_NAMED: Final = 100  # mistakes of one body
_TOO_MANY: Final = f"Expected `array` of at most length {MOST_INLINE}"  # in msgspec's words
_KINDS: Final[Mapping[str, adapter.Operation]] = {
    Operation.CHAT: adapter.Operation.CHAT,
    Operation.COMPLETIONS: adapter.Operation.COMPLETION,
    Operation.EMBEDDINGS: adapter.Operation.EMBEDDING,
}


class BatchCreation(msgspec.Struct, forbid_unknown_fields=True):
    """Either with ``requests`` or with ``input_file_id``. ``null`` means absent."""

    requests: list[msgspec.Raw] | None = None
    input_file_id: str | None = None
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"] | None = None
    completion_window: Literal["24h"] | None = None
    metadata: Annotated[dict[ShortLabel, Label], Meta(max_length=16)] | None = None

    @property
    def entries(self) -> list[msgspec.Raw]:
        """Those of ``requests``."""
        return self.requests or []

    @property
    def operation(self) -> Operation:
        return Operation(self.endpoint or Operation.CHAT)


# A list of at most so many that is refused at the next entry: a body of nothing but small ones would take 40 times its
# size in memory before it could be counted.
_Entries: Any = msgspec.defstruct(
    "_Entries",
    [(f"entry_{number}", msgspec.Raw, ABSENT) for number in range(MOST_INLINE)],
    array_like=True,
    forbid_unknown_fields=True,
)


class _Read(BatchCreation, forbid_unknown_fields=True):
    requests: _Entries | None = None

    @property
    def entries(self) -> list[msgspec.Raw]:
        given = () if self.requests is None else msgspec.structs.astuple(self.requests)
        return [entry for entry in given if entry is not ABSENT]


_CHOICES: Final = complaints.allowed_values(BatchCreation)
_decode = msgspec.json.Decoder(_Read).decode


def parse(body: bytes) -> BatchCreation:
    """Raises InvalidRequest."""
    try:
        asked = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        if str(problem).startswith(_TOO_MANY):
            raise errors.InvalidRequest(
                f"At most {MOST_INLINE:,} requests may be given inline: upload more of them as a file to /v1/files, "
                "and give its id as input_file_id.",
                param="requests",
            ) from None
        raise complaints.translate(problem, body, ranges={}, choices=_CHOICES) from None
    if asked.requests is None and asked.input_file_id is None:
        raise errors.InvalidRequest(
            f"Give requests, a list of up to {MOST_INLINE:,}, or input_file_id, a file that was uploaded to /v1/files.",
            param="requests",
        )
    if asked.requests is not None and asked.input_file_id is not None:
        raise errors.InvalidRequest("Give requests or input_file_id, not both of them.", param="input_file_id")
    if asked.input_file_id is not None and asked.endpoint is None:
        raise complaints.refuse("endpoint", f"is required with input_file_id: one of {', '.join(Operation.values)}")
    if asked.requests is not None and not asked.entries:
        raise errors.InvalidRequest("requests is empty: give at least one.", param="requests")
    return asked


def read(requests: Sequence[msgspec.Raw], operation: Operation, snapshot: Snapshot) -> list[Line]:
    """Raises InvalidRequest, whose ``details`` name all that is wrong, up to a hundred of them."""
    wrong: dict[str, str] = {}
    found: list[Line] = []
    models: dict[str, str] = {}  # what is wrong with each
    first: dict[str, int] = {}  # custom_id → index
    for index, raw in enumerate(requests):
        try:
            line = lines.parse_inline(bytes(raw), index, operation)
        except errors.InvalidRequest as error:
            wrong |= error.details
            continue
        if line.model not in models:
            models[line.model] = _complaint(line.model, operation, snapshot)
        if models[line.model]:
            wrong[f"requests[{index}].model"] = models[line.model]
        if first.setdefault(line.custom_id, index) != index:
            other = f"requests[{first[line.custom_id]}]"
            wrong[f"requests[{index}].custom_id"] = f"This custom_id is that of {other} too: give each its own."
        found.append(line)
    if wrong:
        raise _refusal(wrong)
    return found


def _complaint(model: str, operation: Operation, snapshot: Snapshot) -> str:
    """As a request of its own would be refused; empty for a model that this key may ask for this."""
    try:
        snapshot.check_model(model)
        known = catalogue.current().get(model, snapshot.organization_id)
    except (errors.AuthorizationFailed, errors.ModelNotFound) as error:
        return error.message
    kind = _KINDS[operation]
    if any(kind in deployment.adapter.operations for deployment in known.deployments) or (
        known.fallbacks and operation != Operation.EMBEDDINGS
    ):
        return ""
    return f"This model does not do {kind}."


def _refusal(wrong: dict[str, str]) -> errors.InvalidRequest:
    param, complaint = next(iter(wrong.items()))
    rest = len(wrong) - 1
    message = complaint if complaint.startswith(param.partition(".")[0]) else f"{param}: {complaint}"
    if rest:
        message += f" {rest:,} more {'is' if rest == 1 else 'are'} wrong: see details."
    if len(wrong) > MOST_NAMED:
        message += f" They name the first {MOST_NAMED}."
    return errors.InvalidRequest(message, param=param, details=dict(list(wrong.items())[:MOST_NAMED]))
