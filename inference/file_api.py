"""``/v1/files``: OpenAI's shapes. What is uploaded is the input of batches; what they end in is fetched here too."""

import time
from typing import Any, Final

from django.http import StreamingHttpResponse
from django.urls import re_path
from django.utils.http import content_disposition_header
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api_auth import ApiKeyView
from helixflow.lib import errors, ids
from helixflow.lib.serializers import StrictSerializer, parameters
from inference.batch import files, uploads
from inference.batch_models import StoredFile
from inference.gateway import gateway

MAX_LIMIT: Final = 10_000  # OpenAI's, and its clients may ask for it
MAX_PAGE: Final = 1_000  # what they get at once; ``has_more`` tells them
CONTENT_TYPE: Final = "application/jsonl"


class FilesView(ApiKeyView):
    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        gateway.uses[self.snapshot(request).key_id] = time.time()

    def file(self, request: Request, file_id: str) -> StoredFile:
        """Raises NotFound."""
        return files.get(self.snapshot(request).organization_id, file_id)


class FileParameters(StrictSerializer):
    purpose = serializers.CharField(required=False)
    limit = serializers.IntegerField(required=False, min_value=1, max_value=MAX_LIMIT)
    after = serializers.CharField(required=False)
    order = serializers.ChoiceField(choices=["asc", "desc"], required=False)


class FileList(FilesView):
    def get(self, request: Request) -> Response:
        given = parameters(request, FileParameters)
        rows = files.of(self.snapshot(request).organization_id)
        if "purpose" in given:
            rows = rows.filter(purpose=given["purpose"])
        ascending = given.get("order") == "asc"
        if "after" in given:
            rows = rows.filter(**{"id__gt" if ascending else "id__lt": _file_id(given["after"])})
        limit = min(given.get("limit", MAX_LIMIT), MAX_PAGE)
        found = list(rows.order_by("id" if ascending else "-id")[: limit + 1])
        data = [represent(file) for file in found[:limit]]
        return Response(
            {
                "object": "list",
                "data": data,
                "first_id": data[0]["id"] if data else None,
                "last_id": data[-1]["id"] if data else None,
                "has_more": len(found) > limit,
            }
        )

    def post(self, request: Request) -> Response:
        snapshot = self.snapshot(request)
        if request.stream is None:
            raise errors.InvalidRequest("The body is empty. Send multipart/form-data with the fields purpose and file.")
        return Response(
            represent(uploads.receive(request.stream, request.META, snapshot.organization_id, snapshot.key_id))
        )


class FileDetail(FilesView):
    def get(self, request: Request, file_id: str) -> Response:
        return Response(represent(self.file(request, file_id)))

    def delete(self, request: Request, file_id: str) -> Response:
        file = self.file(request, file_id)
        files.delete(file)
        return Response({"id": file.public_id, "object": "file", "deleted": True})


class FileContent(FilesView):
    def get(self, request: Request, file_id: str) -> StreamingHttpResponse:
        return download(self.file(request, file_id))


def download(file: StoredFile) -> StreamingHttpResponse:
    """Decrypted on the way. If it turns out to be damaged the answer is cut, shorter than its length says."""
    response = StreamingHttpResponse(
        files.chunks(file),
        content_type=CONTENT_TYPE,
        headers={
            "Content-Length": str(file.size_bytes),
            "Content-Disposition": content_disposition_header(True, file.filename),
            "Cache-Control": "private, no-store",
        },
    )
    response.organization_id = file.organization_id  # type: ignore[attr-defined]  # the server sends each few at once
    return response


def represent(file: StoredFile) -> dict[str, Any]:
    return {
        "id": file.public_id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": int(file.created_at.timestamp()),
        "expires_at": int(file.expires_at.timestamp()),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }


def _file_id(public_id: str) -> Any:
    """Raises InvalidRequest."""
    try:
        return ids.parse_public_id(ids.FILE, public_id)
    except ValueError:
        raise errors.InvalidRequest("after is the id of a file: take it from last_id.", param="after") from None


urlpatterns = [
    re_path(r"^files/?$", FileList.as_view()),
    re_path(r"^files/(?P<file_id>[^/]+)/?$", FileDetail.as_view()),
    re_path(r"^files/(?P<file_id>[^/]+)/content/?$", FileContent.as_view()),
]
