"""Visits to the pages about usage and limits, for tests."""

import re
import time
from html import unescape

from django.test import Client
from django.utils import timezone
from redis import RedisError

from billing import months
from billing.models import UsageMonth
from billing.reports import live
from billing.rollup_models import UsageHour

EVIL = "<script>alert(1)</script>"


def signed_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text_of(response) -> str:
    assert response.status_code == 200
    main = response.content.decode().split("<main")[1]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", main)).split())


def csrf_token(response) -> str:
    """Of the forms on the page's main part, which share it."""
    main = response.content.decode().split("<main")[1]
    token: str
    [token] = set(re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', main))
    return token


def use(key, *, units=0, cost="0", prompt=0, completion=0):
    """As the meter writes it, of this month."""
    now, rows = timezone.now(), {"organization_id": key.organization_id, "api_key_id": key.id}
    UsageMonth.objects.create(month=months.first_day(months.of(time.time())), units=units, cost=cost, **rows)
    hour = now.replace(minute=0, second=0, microsecond=0)
    UsageHour.objects.create(hour=hour, prompt_tokens=prompt, completion_tokens=completion, **rows)


def redis_is_away(monkeypatch):
    def away(organization_id):
        raise RedisError

    monkeypatch.setattr(live, "read", away)
