"""The probe: asks every component once a minute, and adds what it found to the day's row.

While PostgreSQL is away findings wait in Redis: the day that it was down is told as well, once it is back.
"""

import datetime as dt
import logging
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from django.db import Error as DatabaseError
from django.db import connection, transaction
from django.utils import timezone

from helixflow.lib import redis
from helixflow.models import State, StatusDay
from helixflow.status.components import COMPONENTS, DATABASE, MODEL, Component, Found, models
from inference import catalogue

logger = logging.getLogger(__name__)

WAITING: Final = "status:findings"
MOST_WAITING: Final = 5_000  # some five hours of twenty components
KEPT: Final = dt.timedelta(days=120)
MAX_NOTE: Final = 200


class Finding(msgspec.Struct, array_like=True):
    component: str
    state: str
    note: str
    at: dt.datetime


def run() -> None:
    """One round. Never raises for what a component does; for Redis neither."""
    findings = list(_look())
    if _has_no_database(findings):  # to try would be to wait for as long as it hangs
        _let_wait(findings)
        return
    try:
        _write([*_waiting(), *findings])
    except DatabaseError as error:
        logger.warning("what was found waits for the database: %s", str(error).partition("\n")[0])
        connection.close()
        _let_wait(findings)
    else:
        _forget_waiting()


def drop_old() -> int:
    dropped, _ = StatusDay.objects.filter(day__lt=timezone.now().date() - KEPT).delete()
    return dropped


def _look() -> Iterable[Finding]:
    findings = []
    for component in COMPONENTS:
        found = _ask(component)
        findings.append(Finding(component.key, found.state, found.note[:MAX_NOTE], timezone.now()))
    yield from findings
    try:
        known = catalogue.keeper.catalogue if _has_no_database(findings) else catalogue.current()
        states = models(known) if known else {}
    except Exception:  # as with a component: what can't be known is not told
        logger.exception("the models were not looked at")
        return
    for name, state in states.items():
        yield Finding(f"{MODEL}{name}", state, "", timezone.now())


def _has_no_database(findings: Iterable[Finding]) -> bool:
    return any(each.component == DATABASE and each.state == State.DOWN for each in findings)


def _ask(component: Component) -> Found:
    try:
        return component.check()
    except Exception as error:  # noqa: BLE001  # whatever it is, the component does not do its work
        if isinstance(error, DatabaseError):
            connection.close()
        logger.warning("%s does not answer: %s", component.name, type(error).__name__)
        return Found(State.DOWN, type(error).__name__)


@transaction.atomic
def _write(findings: Iterable[Finding]) -> None:
    """One row for a component and day, locked in order."""
    for each in sorted(findings, key=lambda finding: (finding.component, finding.at)):
        row, _ = StatusDay.objects.select_for_update().get_or_create(
            component=each.component,
            day=each.at.date(),
            defaults={"state": each.state, "checked_at": each.at},
        )
        row.checks += 1
        row.degraded += each.state == State.DEGRADED
        row.down += each.state == State.DOWN
        row.state, row.note, row.checked_at = each.state, each.note, each.at
        row.save()


def _waiting() -> list[Finding]:
    try:
        client: Any = redis.sync_client()
        return [msgspec.json.decode(text, type=Finding) for text in client.lrange(WAITING, 0, -1)]
    except redis.RedisError:
        return []
    except msgspec.MsgspecError:  # of another version: forgotten with the next that are written
        logger.warning("findings that waited can't be read")
        return []


def _let_wait(findings: Iterable[Finding]) -> None:
    try:
        client: Any = redis.sync_client()
        client.rpush(WAITING, *(msgspec.json.encode(each) for each in findings))
        client.ltrim(WAITING, -MOST_WAITING, -1)
    except redis.RedisError as error:
        logger.warning("what was found is lost: %s", error)


def _forget_waiting() -> None:
    """Should this fail they are counted twice: of a day's hundreds of checks that says nothing."""
    try:
        redis.sync_client().delete(WAITING)
    except redis.RedisError:
        logger.warning("findings that were written stay in Redis")
