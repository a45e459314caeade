"""``/v1/audit-events``: the audit log of the organization a login acts for, for its owners."""

from typing import Any

from django.urls import re_path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access, audit_log, roles
from accounts.api import callers
from accounts.audit_forms import AuditFilter
from accounts.models import AuditEvent
from helixflow.lib import clock, drf, ids, paging
from helixflow.lib.errors import InvalidRequest


class AuditEvents(APIView):
    """Newest first; ``actor``, ``group``, ``since`` and ``until`` (days in UTC) choose, as on the page."""

    def get(self, request: Request) -> Response:
        membership = callers.membership(request)
        access.require(membership, roles.READ_AUDIT)
        form = AuditFilter(request.query_params)
        if not form.is_valid():
            details = {field: messages[0] for field, messages in form.errors.items()}
            param, message = next(iter(details.items()))
            raise InvalidRequest(f"{param}: {message}", param=param, details=details)
        events, following = paging.page(
            audit_log.of_organization(membership.organization, **form.cleaned_data),
            prefix=ids.AUDIT_EVENT,
            cursor=request.query_params.get("cursor"),
            limit=paging.limit_of(request.query_params.get("limit")),
        )
        return drf.respond_page(request, [represent(event) for event in events], following)


def represent(event: AuditEvent) -> dict[str, Any]:
    """``changes`` maps each field to its value before and after. ``user_id`` null: the platform did it."""
    return {
        "id": event.public_id,
        "object": "audit_event",
        "action": event.action,
        "summary": event.summary,
        "actor": event.actor,
        "user_id": ids.public_id(ids.USER, event.user_id) if event.user_id else None,
        "is_support": event.is_staff,
        "target": event.target or None,
        "changes": {name: {"before": before, "after": after} for name, (before, after) in event.changes.items()},
        "address": event.address,
        "user_agent": event.user_agent,
        "created_at": clock.rfc3339(event.created_at),
    }


urlpatterns = [re_path(r"^audit-events/?$", AuditEvents.as_view())]
