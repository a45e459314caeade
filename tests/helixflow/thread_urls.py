"""Views for test_threads.py."""

import threading
from collections.abc import Iterator

from django.db import connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

gate = threading.Event()


def wait(request: HttpRequest) -> HttpResponse:
    gate.wait(10)
    return HttpResponse("waited")


def quick(request: HttpRequest) -> HttpResponse:
    response = HttpResponse(threading.current_thread().name)
    response.set_cookie("crumb", "1")
    return response


def backend(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return HttpResponse(str(cursor.fetchone()[0]))


def parts(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(str(number) for number in range(3))


def slow_parts(request: HttpRequest) -> StreamingHttpResponse:
    def made() -> Iterator[str]:
        yield "first"
        gate.wait(10)
        yield "last"

    return StreamingHttpResponse(made())


def someones_parts(request: HttpRequest) -> StreamingHttpResponse:
    response = slow_parts(request)
    response.organization_id = request.GET["of"]  # type: ignore[attr-defined]  # as downloads of files have it
    return response


urlpatterns = [
    path("wait", wait),
    path("quick", quick),
    path("backend", backend),
    path("parts", parts),
    path("slow-parts", slow_parts),
    path("someones-parts", someones_parts),
]
