"""What these tests send and look at."""

from typing import Any

from django.urls import reverse

from helixflow.lib import redis
from inference import catalogue

SECRET = "sk-provider-0123456789"


def form(**fields: str) -> dict[str, str]:
    return {"name": "somewhere", "kind": "openai", "base_url": "https://api.example.com/v1", "enabled": "on"} | fields


def change_url(row: Any) -> str:
    return reverse(f"admin:inference_{row._meta.model_name}_change", args=[row.pk])


def version() -> object:
    return redis.sync_client().get(catalogue.VERSION_KEY)


def page_url(row: Any, name: str) -> str:
    """A page beside the change page: test, reset, models."""
    return reverse(f"admin:inference_{row._meta.model_name}_{name}", args=[row.pk])
