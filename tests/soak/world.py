"""What the run acts in: an upstream with a model for each way of misbehaving, organizations with keys, memory."""

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from accounts import api_keys
from accounts.models import ApiKey, Organization, User
from billing.models import Plan, Subscription
from inference.models import Deployment, Model, Provider
from tests import factories
from tests.fakes.behaviours import BEHAVIOURS, Behaviour, Call
from tests.fakes.upstream import Upstream

PLENTY = 1_000_000
# Fail before the first byte: models with another deployment behind such a one lose nothing.
PASSED_OVER = ("status-500", "status-503", "status-429", "html-502", "close-before-head", "not-json", "bad-chunk")
RESCUED = "rescued-from-"


class CountingUpstream(Upstream):
    """Knows how many exchanges are under way, whatever became of their clients."""

    under_way = 0

    def _behaviour(self, call: Call) -> Behaviour:
        behaviour = super()._behaviour(call)

        async def counted(call: Call) -> None:
            self.under_way += 1
            try:
                await behaviour(call)
            finally:
                self.under_way -= 1

        return counted


@dataclass(frozen=True)
class Tenant:
    """An organization, its limit, and a key of it."""

    organization: Organization
    owner: User
    limit: int
    key: str

    def new_key(self) -> tuple[ApiKey, str]:
        return api_keys.create(organization=self.organization, user=self.owner, name=f"soak {uuid.uuid4().hex[:8]}")

    def revoke(self, key: ApiKey) -> None:
        api_keys.revoke(key=key, user=self.owner)


def make_models(upstream: Upstream) -> None:
    """A model for each behaviour, under its name, and some with a second deployment; those of an earlier run lead here
    now."""
    provider, _ = Provider.objects.update_or_create(name="soak", defaults={"base_url": upstream.url})
    for name in BEHAVIOURS:
        model, _ = Model.objects.get_or_create(name=name, defaults={"owned_by": "soak"})
        Deployment.objects.get_or_create(name=name, model=model, provider=provider, upstream_model=name)
    for name in PASSED_OVER:
        model, _ = Model.objects.get_or_create(name=f"{RESCUED}{name}", defaults={"owned_by": "soak"})
        for priority, upstream_model in enumerate((name, "normal")):
            Deployment.objects.get_or_create(
                name=f"{RESCUED}{name}-{priority}",
                model=model,
                provider=provider,
                upstream_model=upstream_model,
                priority=priority,
            )


def make_tenant(name: str, *, limit: int) -> Tenant:
    owner = factories.user(name)
    organization = factories.organization(owner=owner, name=name)
    plan, _ = Plan.objects.get_or_create(slug="soak", defaults={"name": "Soak"})
    Subscription.objects.create(
        organization=organization, plan=plan, requests_per_minute=limit, requests_per_month=PLENTY
    )
    _, key = api_keys.create(organization=organization, user=owner, name="soak")
    return Tenant(organization, owner, limit, key)


def resident_bytes(pid: int) -> int:
    """Memory of a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            parent = _read(entry / "stat", lambda text: int(text.rpartition(")")[2].split()[1]))
            children.setdefault(parent, []).append(int(entry.name))
    family, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        family += _read(Path(f"/proc/{one}/statm"), lambda text: int(text.split()[1])) * os.sysconf("SC_PAGE_SIZE")
        waiting += children.get(one, [])
    return family


def _read(path: Path, take: Callable[[str], int]) -> int:
    try:
        return take(path.read_text())
    except OSError:
        return 0  # it ended meanwhile
