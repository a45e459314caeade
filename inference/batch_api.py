"""``/v1/batches``: OpenAI's objects and paging, requests that are given inline, results, retries."""

import time
import uuid
from collections.abc import Mapping
from typing import IO, Any, Final

import msgspec
from django.db.models import QuerySet
from django.db.models.functions import Length
from django.http import HttpResponse
from django.urls import re_path
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from billing.admission.snapshots import Snapshot
from billing.api_auth import ApiKeyView
from helixflow.lib import errors, ids
from helixflow.lib.serializers import StrictCharField, StrictSerializer, parameters
from inference.batch import batches, files, inline, once, results, sealing, wire
from inference.batch_models import Batch, BatchItem, ItemState
from inference.gateway import gateway
from inference.keeping import idempotency

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100
DEFAULT_RESULTS: Final = 100
MAX_RESULTS: Final = 1_000
DIGITS: Final = 9  # of a number that is worth reading
MAX_PAGE: Final = 8 * 1024 * 1024  # bytes of answers, past which a page of results ends

_encode = msgspec.json.Encoder().encode


class BytesParser(BaseParser):
    """The body as it is: the view reads it with what it has to know of it."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        return stream.read()


class Page(StrictSerializer):
    limit = StrictCharField(required=False)
    after = StrictCharField(required=False)


class BatchesView(ApiKeyView):
    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        gateway.uses[self.snapshot(request).key_id] = time.time()


class BatchList(BatchesView):
    parser_classes = (BytesParser,)

    def get(self, request: Request) -> Response:
        given = parameters(request, Page)
        limit = _limit(given.get("limit"), DEFAULT_LIMIT, MAX_LIMIT)
        rows = batches.of(self.snapshot(request).organization_id).order_by("-id")
        if "after" in given:
            rows = rows.filter(id__lt=_batch_id(given["after"]))
        found = list(rows[: limit + 1])
        return Response(_page([wire.represent(batch) for batch in found[:limit]], has_more=len(found) > limit))

    def post(self, request: Request) -> Response:
        snapshot = self.snapshot(request)
        body: Any = request.data or b""  # as BytesParser gives it
        asked = inline.parse(body)
        if asked.requests is not None:
            batch = _create_inline(asked, snapshot, request, body)
        else:
            batch = _create(asked, snapshot, request, body)
        return Response(wire.represent(batch))


class BatchDetail(BatchesView):
    def get(self, request: Request, batch_id: str) -> Response:
        return Response(wire.represent(batches.get(self.snapshot(request).organization_id, batch_id)))


class BatchCancel(BatchesView):
    def post(self, request: Request, batch_id: str) -> Response:
        batch = batches.cancel(organization_id=self.snapshot(request).organization_id, public_id=batch_id)
        return Response(wire.represent(batch))


class BatchRetry(BatchesView):
    def post(self, request: Request, batch_id: str) -> Response:
        snapshot = self.snapshot(request)
        batch = batches.get(snapshot.organization_id, batch_id)
        new_id = _new_id(request, snapshot, f"retry {batch.public_id}".encode())
        return Response(wire.represent(batches.retry(batch=batch, api_key_id=snapshot.key_id, batch_id=new_id)))


class BatchResults(BatchesView):
    def get(self, request: Request, batch_id: str) -> HttpResponse:
        """While the batch runs, of those that have ended so far."""
        batch = batches.get(self.snapshot(request).organization_id, batch_id)
        given = parameters(request, Page)
        limit = _limit(given.get("limit"), DEFAULT_RESULTS, MAX_RESULTS)
        settled = batch.items.exclude(state=ItemState.WAITING)
        if "after" in given:
            settled = settled.filter(position__gt=_position(batch, given["after"]))
        items, has_more = _fitting(settled, limit)
        if not items and batch.settled and "after" not in given and not batch.items.exists():
            raise errors.NotFound("The results of this batch were deleted, 30 days after it ended.")
        box = sealing.Box(batch.sealed_key)
        page = _page([results.result_of(item, box) for item in items], has_more=has_more)
        return HttpResponse(_encode(page), content_type="application/json")


def _create(asked: inline.BatchCreation, snapshot: Snapshot, request: Request, body: bytes) -> Batch:
    try:
        file = files.get(snapshot.organization_id, asked.input_file_id or "")
    except errors.NotFound as error:
        raise errors.NotFound(error.message, param="input_file_id") from None
    return batches.create(
        organization_id=snapshot.organization_id,
        api_key_id=snapshot.key_id,
        file=file,
        operation=asked.operation,
        metadata=asked.metadata,
        batch_id=_new_id(request, snapshot, body),
    )


def _create_inline(asked: inline.BatchCreation, snapshot: Snapshot, request: Request, body: bytes) -> Batch:
    return batches.create_inline(
        organization_id=snapshot.organization_id,
        api_key_id=snapshot.key_id,
        requests=inline.read(asked.entries, asked.operation, snapshot),
        operation=asked.operation,
        metadata=asked.metadata,
        batch_id=_new_id(request, snapshot, body),
    )


def _new_id(request: Request, snapshot: Snapshot, asked: bytes) -> uuid.UUID | None:
    """Raises InvalidRequest for a key that came with something else. None: no key was given."""
    key = request.headers.get(idempotency.HEADER)
    return None if key is None else once.batch_id(snapshot.organization_id, snapshot.key_id, key, asked)


def _fitting(settled: QuerySet[BatchItem], limit: int) -> tuple[list[BatchItem], bool]:
    """Those of one page, in order, and whether there are more. At least one, however large its answer."""
    sizes = settled.order_by("position").values_list("id", Length("answer"))[: limit + 1]
    chosen: list[int] = []
    room = MAX_PAGE
    for item_id, size in sizes:
        room -= size or 0
        if len(chosen) == limit or (chosen and room < 0):
            break
        chosen.append(item_id)
    rows = BatchItem.objects.filter(id__in=chosen).defer("request").order_by("position")
    return list(rows), len(sizes) > len(chosen)


def _page(shown: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": has_more,
    }


def _limit(raw: str | None, default: int, most: int) -> int:
    if raw is None:
        return default
    if not (raw.isascii() and raw.isdigit() and len(raw) <= DIGITS and 1 <= int(raw) <= most):
        raise errors.InvalidRequest(f"The limit is a whole number from 1 to {most:,}.", param="limit")
    return int(raw)


def _batch_id(after: str) -> uuid.UUID:
    try:
        return ids.parse_public_id(ids.BATCH, after)
    except ValueError:
        raise errors.InvalidRequest("after is not the id of a batch: take last_id.", param="after") from None


def _position(batch: Batch, after: str) -> int:
    head = BatchItem(batch_id=batch.id, position=0).public_id.removesuffix("0")
    position = after.removeprefix(head)
    if not (after.startswith(head) and position.isascii() and position.isdigit() and len(position) <= DIGITS):
        raise errors.InvalidRequest("after is not the id of one of its results: take last_id.", param="after")
    return int(position)


urlpatterns = [
    re_path(r"^batches/?$", BatchList.as_view()),
    re_path(r"^batches/(?P<batch_id>[^/]+)/?$", BatchDetail.as_view()),
    re_path(r"^batches/(?P<batch_id>[^/]+)/cancel/?$", BatchCancel.as_view()),
    re_path(r"^batches/(?P<batch_id>[^/]+)/retry/?$", BatchRetry.as_view()),
    re_path(r"^batches/(?P<batch_id>[^/]+)/results/?$", BatchResults.as_view()),
]
