"""Anything that can come to a meter, in any order, beside a model of what is to be told. Seeded, so it is the same."""

import random
import uuid
from dataclasses import dataclass, field

import pytest
from django.db import transaction
from django.utils import timezone

from accounts.models import Organization
from billing import events
from billing.metering import ledger
from billing.models import UsageRecord
from tests.billing.metering.announced import CREATED, FAILED, listen, request_id
from tests.billing.usage_events import FlatPrice, reaped, usage
from webhooks.models import Delivery, Endpoint, Event

STEPS = 40
KEYS = [uuid.UUID(int=number) for number in (1, 2)]


@dataclass
class World:
    """``told``: the types of each request's events, in order. ``sent``: (request, endpoint, type) of each delivery."""

    dice: random.Random
    organizations: list[Organization]
    endpoints: list[Endpoint]
    truths: list[events.Usage] = field(default_factory=list)
    records: dict[uuid.UUID, events.Usage] = field(default_factory=dict)
    told: dict[str, list[str]] = field(default_factory=dict)
    sent: set[tuple[str, uuid.UUID, str]] = field(default_factory=set)

    def step(self) -> None:
        if self.dice.random() < 0.3:
            self.change_an_endpoint()
        batch = self.batch()
        if self.dice.random() < 0.2:
            with transaction.atomic():  # a meter that dies before the commit
                ledger.write(batch, book=FlatPrice())
                transaction.set_rollback(True)
        ledger.write(batch, book=FlatPrice())
        self.expect(batch)

    def change_an_endpoint(self) -> None:
        endpoint = self.dice.choice(self.endpoints)
        endpoint.disabled_at = timezone.now() if self.dice.random() < 0.3 else None
        endpoint.events = self.dice.choice([[CREATED, FAILED], [CREATED, FAILED], [CREATED], [FAILED]])
        endpoint.api_key_ids = self.dice.choice([None, None, KEYS[:1]])
        endpoint.save()

    def batch(self) -> list[ledger.Entry]:
        """New ones, guesses about them, what came before, the truth about old guesses."""
        new = [self.request() for _ in range(self.dice.randrange(16))]
        self.truths += new
        entries = []
        for event in [*new, *self.dice.sample(self.truths, min(len(self.truths), 8))]:
            kind = self.dice.choice(["in time", "late", "guess", "guess", "guess and late"])
            entries += [ledger.Entry(reaped(event))] if "guess" in kind else []
            entries += [ledger.Entry(event, late="late" in kind)] if kind != "guess" else []
        self.dice.shuffle(entries)
        return entries

    def request(self) -> events.Usage:
        failed = self.dice.random() < 0.4
        made: events.Usage = usage(
            organization_id=self.dice.choice(self.organizations).id,
            api_key_id=self.dice.choice(KEYS),
            operation=self.dice.choice([events.CHAT, "completions"]),
            status=503 if failed else 200,
            error_code="timeout" if failed else "",
        )
        return made

    def expect(self, batch: list[ledger.Entry]) -> None:
        """What comes in time counts first; of the late ones a gateway's word takes a reaper's place."""
        before = dict(self.records)
        for entry in sorted(batch, key=lambda entry: entry.late):
            event, known = entry.event, self.records.get(entry.event.id)
            assert isinstance(event, events.Usage)
            is_better = known and known.settled_by == events.REAPER and event.settled_by != events.REAPER
            if known is None or (is_better and entry.late):
                self.records[event.id] = event
        for id_, event in self.records.items():
            if id_ not in before or type_of(before[id_]) != type_of(event):
                self.tell(event)

    def tell(self, event: events.Usage) -> None:
        listening = [endpoint for endpoint in self.endpoints if hears(endpoint, event)]
        if listening:
            self.told.setdefault(request_id(event), []).append(type_of(event))
        self.sent |= {(request_id(event), endpoint.id, type_of(event)) for endpoint in listening}


def type_of(event: events.Usage) -> str:
    return FAILED if event.error_code else CREATED


def hears(endpoint: Endpoint, event: events.Usage) -> bool:
    return (
        endpoint.organization_id == event.organization_id
        and not endpoint.disabled_at
        and type_of(event) in endpoint.events
        and event.api_key_id in (endpoint.api_key_ids or KEYS)
    )


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("seed", range(8))
def test_events_are_those_of_the_records_and_no_others(organization, outsider, seed):
    other = outsider.memberships.get().organization
    nobody = Organization.objects.create(name="Without endpoints")
    endpoints = [listen(organization), listen(organization, FAILED), listen(other, CREATED)]
    world = World(random.Random(seed), [organization, other, nobody], endpoints)
    for _ in range(STEPS):
        world.step()
    found: dict[str, list[str]] = {}
    for event in Event.objects.exclude(type="quota.low").order_by("created_at"):
        found.setdefault(event.data["request_id"], []).append(event.type)
    assert found == world.told
    assert len(found) > 50  # or it tried nothing
    assert [FAILED, CREATED] in found.values()
    sent = Delivery.objects.values_list("event__data__request_id", "endpoint_id", "event__type")
    assert sorted(sent) == sorted(world.sent)
    assert UsageRecord.objects.count() == len(world.records)
