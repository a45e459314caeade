"""Visits of the endpoints' pages, as a browser makes them."""

import re
from html import unescape
from typing import Any

from django.test import Client

from accounts.models import User
from webhooks.models import Endpoint

URL = "/dashboard/webhooks"
HOOK = "https://hooks.example.com/in"  # that of tests/factories.py
FORM = {"url": HOOK, "description": "Warehouse", "events": ["quota.low"], "models": ""}
COLUMNS = ("url", "events", "sealed_secret", "rotation_ends_at", "disabled_at", "deleted_at")


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text_of(response: Any) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def main_of(response: Any) -> str:
    return str(response.content.decode()).split("<main")[1].split("</main>")[0]


def new_form(client: Client, **fields: object) -> dict[str, object]:
    [once] = re.findall(r'name="once" value="([^"]+)"', client.get(f"{URL}/new").content.decode())
    return FORM | {"once": once} | fields


def state_of(endpoint: Endpoint) -> tuple[object, ...]:
    return tuple(Endpoint.objects.values_list(*COLUMNS).get(id=endpoint.id))
