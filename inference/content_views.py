"""The dashboard's page for deleting what is stored of one request."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.views.decorators.http import require_http_methods

from accounts import access
from inference import contents


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: HttpRequest, request_id: str) -> HttpResponse:
    membership = access.page_membership(request)
    if request.method == "POST":
        contents.forget(membership=membership, request_id=request_id)
        messages.success(request, "The prompt and the answer are deleted.")
        return redirect("request", request_id)
    contents.require(membership=membership, request_id=request_id)
    context = {"membership": membership, "request_id": request_id, "back": reverse("request", args=[request_id])}
    return render(request, "billing/requests/delete_contents.html", context)


urlpatterns = [
    path("dashboard/requests/<str:request_id>/contents/delete", delete, name="request-contents-delete"),
]
