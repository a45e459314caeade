"""What `manage.py check --deploy` says about HelixFlow's own settings, beside Django's."""

from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register  # noqa: A004  # Django's name for it


@register(Tags.security, deploy=True)
def mail_leaves(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    if not settings.EMAIL_BACKEND.endswith("smtp.EmailBackend"):
        return [
            Warning(
                "Mail goes to the log, links that reset passwords included.",
                hint="Set EMAIL_URL to an SMTP server, such as smtp+tls://user:password@mail.example.com.",
                id="helixflow.W001",
            )
        ]
    return []


@register(Tags.security, deploy=True)
def https_is_recognised(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """The web process speaks plain HTTP; a proxy in front of it ends TLS and says so in X-Forwarded-Proto."""
    if settings.HTTPS and not settings.TRUSTED_PROXIES:
        return [
            Warning(
                "The public address is https, but no proxy is trusted to say so: every page would redirect to itself.",
                hint="Set HELIXFLOW_TRUSTED_PROXIES to the number of proxies in front of HelixFlow.",
                id="helixflow.W002",
            )
        ]
    return []


@register(Tags.security, deploy=True)
def files_travel_encrypted(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """What batches hold is encrypted in any case; exports are not."""
    endpoint = urlsplit(settings.STORAGES["default"].get("OPTIONS", {}).get("endpoint_url") or "")
    if endpoint.scheme == "http" and not _is_loopback(endpoint.hostname or ""):
        return [
            Warning(
                "Files go to their storage in clear.",
                hint="Give HELIXFLOW_FILES_URL an endpoint that starts with https://.",
                id="helixflow.W003",
            )
        ]
    return []


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
