"""Batches, and the files that they come from and end in."""

from typing import Any, Final

from helixflow.site.openapi import batch_answers as answers
from helixflow.site.openapi.inference_operations import CREATED, MODEL
from helixflow.site.openapi.operations import Operation, Tag
from inference import batch_api, file_api
from inference.batch.inline import BatchCreation

FILE: Final = {
    "id": "file-…",
    "object": "file",
    "bytes": 412,
    "created_at": CREATED,
    "expires_at": CREATED + 30 * 86_400,
    "filename": "requests.jsonl",
    "purpose": "batch",
    "status": "processed",
}
BATCH: Final[dict[str, Any]] = {
    "id": "batch_…",
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "errors": None,
    "input_file_id": "file-…",
    "completion_window": "24h",
    "status": "in_progress",
    "output_file_id": None,
    "error_file_id": None,
    "created_at": CREATED,
    "in_progress_at": CREATED + 1,
    "expires_at": CREATED + 86_400,
    "finalizing_at": None,
    "completed_at": None,
    "failed_at": None,
    "expired_at": None,
    "cancelling_at": None,
    "cancelled_at": None,
    "request_counts": {"total": 2, "completed": 1, "failed": 0},
    "metadata": {"job": "nightly"},
    "usage": {
        "input_tokens": 14,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 6,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 20,
    },
    "cost": "0.000016",
    "currency": "USD",
    "retry_of": None,
    "waits_for": None,
    "waits_until": None,
}
NEW: Final = BATCH | {
    "status": "validating",
    "in_progress_at": None,
    "request_counts": {"total": 0, "completed": 0, "failed": 0},
    "usage": BATCH["usage"] | {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0},
    "cost": "0.00",
}
RESULT: Final[dict[str, Any]] = {
    "id": "batch_req_…_0",
    "custom_id": "first",
    "response": {
        "status_code": 200,
        "request_id": "req_…",
        "body": {
            "id": "chatcmpl-…",
            "object": "chat.completion",
            "created": CREATED + 2,
            "model": MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Hello, and welcome!"},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 14, "completion_tokens": 6, "total_tokens": 20},
        },
    },
    "error": None,
}


def _listed(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [entry],
        "first_id": entry["id"],
        "last_id": entry["id"],
        "has_more": False,
    }


def _asked(custom_id: str, text: str) -> dict[str, Any]:
    return {"custom_id": custom_id, "model": MODEL, "messages": [{"role": "user", "content": text}]}


BATCHES: Final = (
    Operation(
        method="post",
        path="/batches",
        id="createBatch",
        tag="Batches",
        summary="Create a batch",
        text="Hands over many requests at once: up to 1,000 inline in `requests`, or up to 50,000 in a file that was "
        "uploaded to [/files](/docs/api/files). What is wrong with inline requests is told at once, each by its index "
        "in `details`; what is wrong with a file, by the batch's `errors`.",
        auth="key",
        body=BatchCreation,
        answer=answers.Batch,
        shape="plain",
        errors=(404,),
        headers=("IdempotencyKey",),
        anchors=("batch", "batches"),
        example_body={
            "requests": [_asked("first", "Say hello in one line."), _asked("second", "Say goodbye in one line.")],
            "metadata": {"job": "nightly"},
        },
        example=NEW,
    ),
    Operation(
        method="get",
        path="/batches",
        id="listBatches",
        tag="Batches",
        summary="List batches",
        text="Your organization's, of all its keys, newest first.",
        auth="key",
        query=batch_api.Page,
        answer=answers.BatchList,
        shape="plain",
        example=_listed(BATCH),
    ),
    Operation(
        method="get",
        path="/batches/{batch_id}",
        id="getBatch",
        tag="Batches",
        summary="Get a batch",
        text="How far it is. Ask every few seconds, or be told of its end by the [webhook](/docs/webhooks#events) "
        "`batch.completed`.",
        auth="key",
        answer=answers.Batch,
        shape="plain",
        example=BATCH,
    ),
    Operation(
        method="get",
        path="/batches/{batch_id}/results",
        id="listBatchResults",
        tag="Batches",
        summary="Get the results",
        text="In the order of the requests, for 30 days. While the batch runs, those that have ended so far. A page "
        "ends early where its answers are large: go by `has_more`.",
        auth="key",
        query=batch_api.Page,
        answer=answers.BatchResultList,
        shape="plain",
        example=_listed(RESULT),
    ),
    Operation(
        method="post",
        path="/batches/{batch_id}/cancel",
        id="cancelBatch",
        tag="Batches",
        summary="Cancel a batch",
        text="What is under way ends, and is billed; what is not fails with `batch_cancelled`. The batch is "
        "`cancelling`, then `cancelled`. One that has ended is an `invalid_request`.",
        auth="key",
        answer=answers.Batch,
        shape="plain",
        errors=(400,),
        example=BATCH | {"status": "cancelling", "cancelling_at": CREATED + 5},
    ),
    Operation(
        method="post",
        path="/batches/{batch_id}/retry",
        id="retryBatch",
        tag="Batches",
        summary="Retry what failed",
        text="A new batch of all requests that failed, under the same custom_ids. The batch has to have ended.",
        auth="key",
        answer=answers.Batch,
        shape="plain",
        errors=(400,),
        headers=("IdempotencyKey",),
        example=NEW | {"retry_of": "batch_…"},
    ),
)

FILES: Final = (
    Operation(
        method="post",
        path="/files",
        id="createFile",
        tag="Files",
        summary="Upload a file",
        text="A form (`multipart/form-data`) with JSON Lines for a batch, encrypted where it is stored. Every bad "
        "line is named in `details`, and then nothing is stored.",
        auth="key",
        form={"purpose": "batch", "file": "@requests.jsonl"},
        body=answers.FileUpload,
        answer=answers.File,
        shape="plain",
        anchors=("files",),
        example=FILE,
    ),
    Operation(
        method="get",
        path="/files",
        id="listFiles",
        tag="Files",
        summary="List files",
        text="Your organization's, of all its keys: uploads, and what batches have written.",
        auth="key",
        query=file_api.FileParameters,
        answer=answers.FileList,
        shape="plain",
        example=_listed(FILE),
    ),
    Operation(
        method="get",
        path="/files/{file_id}",
        id="getFile",
        tag="Files",
        summary="Get a file",
        auth="key",
        answer=answers.File,
        shape="plain",
        example=FILE,
    ),
    Operation(
        method="get",
        path="/files/{file_id}/content",
        id="getFileContent",
        tag="Files",
        summary="Download a file",
        text="As it was uploaded. Of a batch's output and error files each line is a result.",
        auth="key",
        answer=answers.BatchResult,
        shape="lines",
        example=None,
    ),
    Operation(
        method="delete",
        path="/files/{file_id}",
        id="deleteFile",
        tag="Files",
        summary="Delete a file",
        text="Not while a batch is still reading it. Batches that have read it go on without it.",
        auth="key",
        answer=answers.DeletedFile,
        shape="plain",
        errors=(400,),
        example={"id": "file-…", "object": "file", "deleted": True},
    ),
)

TAGS: Final = (
    Tag("Batches", "batches", "Many requests at once.", BATCHES),
    Tag("Files", "files", "What batches come from and end in.", FILES),
)
