"""What batches and files are asked for and answer with, as ``answers`` has the others: OpenAI's objects, and ours."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from helixflow.site.openapi.answers import Epoch, Money

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]


class FileUpload(msgspec.Struct):
    """The fields of a form, as ``inference.batch.uploads`` reads them."""

    purpose: Literal["batch"]
    file: Annotated[str, Meta(extra_json_schema={"format": "binary"})]
    expires_after_anchor: Literal["created_at"] | UnsetType = msgspec.field(default=UNSET, name="expires_after[anchor]")
    expires_after_seconds: Annotated[int, Meta(ge=3_600, le=2_592_000)] | UnsetType = msgspec.field(
        default=UNSET, name="expires_after[seconds]"
    )


class File(msgspec.Struct):
    id: Annotated[str, Meta(examples=["file-…"])]
    object: Literal["file"]
    bytes: int
    created_at: Epoch
    expires_at: Epoch
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"]


class FileList(msgspec.Struct):
    object: Literal["list"]
    data: list[File]
    first_id: str | None
    last_id: Annotated[str | None, Meta(description="Send it back as ?after=… while has_more is true.")]
    has_more: bool


class DeletedFile(msgspec.Struct):
    id: str
    object: Literal["file"]
    deleted: Literal[True]


class BatchError(msgspec.Struct):
    code: Annotated[str, Meta(examples=["invalid_json_line"])]
    message: str
    param: Annotated[str | None, Meta(description="Where in the line, such as body.temperature.")]
    line: Annotated[int | None, Meta(description="Of the input file, from 1.")]


class BatchErrors(msgspec.Struct):
    object: Literal["list"]
    data: list[BatchError]


class BatchRequestCounts(msgspec.Struct):
    total: Annotated[int, Meta(description="0 until the file has been read.")]
    completed: int
    failed: int


class BatchInputDetails(msgspec.Struct):
    cached_tokens: Annotated[int, Meta(description="Those that the provider had cached.")]


class BatchOutputDetails(msgspec.Struct):
    reasoning_tokens: Annotated[int, Meta(description="Those that the model thought with.")]


class BatchUsage(msgspec.Struct):
    input_tokens: int
    input_tokens_details: BatchInputDetails
    output_tokens: int
    output_tokens_details: BatchOutputDetails
    total_tokens: int


class Batch(msgspec.Struct):
    id: Annotated[str, Meta(examples=["batch_…"])]
    object: Literal["batch"]
    endpoint: Endpoint
    errors: Annotated[BatchErrors | None, Meta(description="What is wrong with its file, if it failed for that.")]
    input_file_id: str
    completion_window: Literal["24h"]
    status: Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]
    output_file_id: Annotated[str | None, Meta(description="Once it ended: the file of what was answered with 200.")]
    error_file_id: Annotated[str | None, Meta(description="Once it ended: the file of what failed.")]
    created_at: Epoch
    in_progress_at: Epoch | None
    expires_at: Epoch
    finalizing_at: Epoch | None
    completed_at: Epoch | None
    failed_at: Epoch | None
    expired_at: Epoch | None
    cancelling_at: Epoch | None
    cancelled_at: Epoch | None
    request_counts: BatchRequestCounts
    metadata: dict[str, str] | None
    usage: Annotated[BatchUsage, Meta(description="The tokens so far.")]
    cost: Money
    currency: str
    retry_of: Annotated[str | None, Meta(description="The batch whose failed requests these are.")]
    waits_for: Annotated[
        str | None,
        Meta(description="Why it stands still: rate_limit, upstream, service or organization; null while it goes on."),
    ]
    waits_until: Epoch | None


class BatchList(msgspec.Struct):
    object: Literal["list"]
    data: list[Batch]
    first_id: str | None
    last_id: Annotated[str | None, Meta(description="Send it back as ?after=… while has_more is true.")]
    has_more: bool


class BatchResponse(msgspec.Struct):
    status_code: int
    request_id: Annotated[str, Meta(description="Its receipt is at /v1/requests/{request_id}.")]
    body: Annotated[dict[str, Any] | str, Meta(description="As the request alone would have been answered.")]


class BatchResultError(msgspec.Struct):
    code: Annotated[str, Meta(description="One of the API's error codes, or batch_cancelled or batch_expired.")]
    message: str


class BatchResult(msgspec.Struct):
    id: Annotated[str, Meta(examples=["batch_req_…_0"])]
    custom_id: str
    response: Annotated[BatchResponse | None, Meta(description="null if it was never answered.")]
    error: Annotated[BatchResultError | None, Meta(description="null if it was answered with 200.")]


class BatchResultList(msgspec.Struct):
    object: Literal["list"]
    data: list[BatchResult]
    first_id: str | None
    last_id: Annotated[str | None, Meta(description="Send it back as ?after=… while has_more is true.")]
    has_more: bool
