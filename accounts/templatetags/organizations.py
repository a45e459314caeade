"""Parts of every dashboard page that tell of the organization it shows: the switcher, and what is to be deleted."""

from typing import Any

from django import template

from accounts import access, roles
from accounts.models import Membership, User
from accounts.organization_views import SECTIONS
from helixflow.lib import errors

register = template.Library()


@register.inclusion_tag("accounts/_switcher.html", takes_context=True)
def switcher(context: dict[str, Any]) -> dict[str, Any]:
    """All of the user's organizations; choosing one leads to the same kind of page in it."""
    request = context["request"]
    section = request.path.removeprefix("/dashboard").strip("/").partition("/")[0]
    return {
        "memberships": access.page_memberships(request),
        "current": _current(context),
        "page": section if section in SECTIONS else "",
        "csrf_token": context.get("csrf_token"),
    }


@register.inclusion_tag("accounts/_deletion.html", takes_context=True)
def deletion_banner(context: dict[str, Any]) -> dict[str, Any]:
    """What is to be deleted, for as long as it can be kept: the organization, the account."""
    user = context["request"].user
    return {
        "membership": _current(context),
        "account_due": user.deletion_due_at if isinstance(user, User) else None,
        "csrf_token": context.get("csrf_token"),
    }


register.filter(roles.with_article)


@register.simple_tag(takes_context=True)
def organization_role(context: dict[str, Any]) -> str:
    """Of the one who looks, in the organization shown; empty for those who are in none."""
    current = _current(context)
    return current.role if current else ""


def _current(context: dict[str, Any]) -> Membership | None:
    """None for those who are in no organization."""
    try:
        return access.page_membership(context["request"])
    except errors.AuthorizationFailed:
        return None
