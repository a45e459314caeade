"""What every template may use."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest


def site(request: HttpRequest) -> dict[str, Any]:
    return {
        "public_url": settings.PUBLIC_URL,
        "api_base_url": f"{settings.PUBLIC_URL}/v1",
        "support_email": settings.SUPPORT_EMAIL,
        "community_url": settings.COMMUNITY_URL,
        "version": settings.VERSION,
    }
