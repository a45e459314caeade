"""``/status`` for people, ``/status.json`` for programs, ``/status/feed`` for readers of feeds, and a page an incident.

Always 200, also while everything is down: they tell how things are. ``/v1/health`` is for monitors.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from asgiref.sync import async_to_sync
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import path
from django.utils import feedgenerator, timezone
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from helixflow.lib import clock, errors, ids
from helixflow.models import Impact, Incident, State
from helixflow.server import health
from helixflow.status import history
from helixflow.status.components import MODEL, models
from helixflow.status.history import Standing, Status
from inference import catalogue

_OF_SERVICE: Final = {"healthy": State.OPERATIONAL, "unhealthy": State.DOWN}


@require_safe
@cache_control(no_store=True)
def status(request: HttpRequest) -> HttpResponse:
    found = _current()
    context = {
        "status": found,
        "verdict": verdict(found),
        "days": history.DAYS,
        "checked_at": timezone.now(),
    }
    return render(request, "site/status/status.html", context)


@require_safe
@cache_control(no_store=True)
def as_json(request: HttpRequest) -> HttpResponse:
    """``uptime`` are shares from 0 to 1 of the checks that did not find it down; null: never looked at."""
    found = _current()
    body = {
        "status": verdict(found),
        "updated_at": clock.rfc3339(timezone.now()),
        "components": [_represent(each) for each in (*found.components, *found.models)],
        "incidents": [_represent_incident(each) for each in (*found.open, *found.announced)],
    }
    response = JsonResponse(body)
    response["Access-Control-Allow-Origin"] = "*"  # nothing here is anybody's own
    return response


@require_safe
@cache_control(public=True, max_age=60)
def feed(request: HttpRequest) -> HttpResponse:
    """Atom: one entry an incident, changed with each word on it."""
    page = f"{settings.PUBLIC_URL}/status"
    atom = feedgenerator.Atom1Feed(
        title="HelixFlow status",
        link=page,
        description="Incidents and maintenance.",
        feed_url=f"{page}/feed",
        language="en",
    )
    for incident in history.current().incidents:
        words = [f"{update.get_phase_display()}: {_of_xml(update.text)}" for update in incident.updates.all()]
        atom.add_item(
            title=_of_xml(incident.title),
            link=f"{page}/incidents/{incident.public_id}",
            description="\n\n".join(words) or incident.get_impact_display(),
            unique_id=f"urn:uuid:{incident.id}",
            pubdate=incident.first_told_at,
            updateddate=incident.changed_at,
        )
    return HttpResponse(atom.writeString("utf-8"), content_type="application/atom+xml; charset=utf-8")


def _of_xml(text: str) -> str:
    """Without what XML can't hold at all: text that is pasted may have it."""
    return "".join(char for char in text if char >= " " or char in "\t\n\r")


@require_safe
def incident(request: HttpRequest, incident_id: str) -> HttpResponse:
    try:
        pk = ids.parse_public_id(ids.INCIDENT, incident_id)
    except ValueError:
        raise errors.NotFound("There is no incident with this id.") from None
    found = Incident.objects.latest_first().filter(pk=pk).first()
    if found is None:
        raise errors.NotFound("There is no incident with this id.")
    return render(request, "site/status/incident.html", {"incident": found, "names": names(found)})


def verdict(found: Status) -> str:
    """Of all together: a state of a component, ``unknown`` or ``maintenance``."""
    states = {each.state for each in (*found.components, *found.models)}
    impacts = {each.impact for each in found.open}
    if Impact.MAJOR in impacts or State.DOWN in {each.state for each in found.components}:
        return State.DOWN
    if Impact.MAINTENANCE in impacts:
        return Impact.MAINTENANCE
    if Impact.MINOR in impacts or states & {State.DOWN, State.DEGRADED}:
        return State.DEGRADED
    return history.UNKNOWN if history.UNKNOWN in states else State.OPERATIONAL


def names(incident: Incident) -> list[str]:
    """Of the components that it names, as the page calls them."""
    found = history.current()
    known = {each.key: each.name for each in (*found.components, *found.models)}
    return [known.get(key, key.removeprefix("model:")) for key in incident.components]


def _current() -> Status:
    """With what can be asked at once, without a query, as it is at this moment."""
    asked = async_to_sync(health.services.status)(wait_s=health.CHECK_S + 0.3)
    now = {key: _OF_SERVICE.get(state, history.UNKNOWN) for key, state in asked.items()}
    now["api"] = State.OPERATIONAL  # it answers at this very moment
    found = history.current()
    known = catalogue.keeper.catalogue
    return replace(
        found,
        components=[_as_now(each, now) for each in found.components or history.unread()],
        models=_models_now(found, models(known)) if known else found.models,
    )


def _models_now(found: Status, states: Mapping[str, State]) -> list[Standing]:
    """Those that everybody is offered now: measured or not yet, and none that was taken from others today."""
    measured = {each.key: each for each in found.models}
    names = sorted(states)[: history.MOST_MODELS]
    return [replace(measured.get(f"{MODEL}{name}") or history.unread_model(name), state=states[name]) for name in names]


def _as_now(standing: Standing, now: Mapping[str, str]) -> Standing:
    return replace(standing, state=now[standing.key]) if standing.key in now else standing


def _represent(standing: Standing) -> dict[str, Any]:
    return {
        "id": standing.key,
        "name": standing.name,
        "status": standing.state,
        "checked_at": clock.rfc3339(standing.checked_at) if standing.checked_at else None,
        "uptime": standing.uptime,
        "days": [{"date": f"{day.date}", "status": day.state, "uptime": day.uptime} for day in standing.days],
    }


def _represent_incident(incident: Incident) -> dict[str, Any]:
    return {
        "id": incident.public_id,
        "title": incident.title,
        "impact": incident.impact,
        "components": incident.components,
        "starts_at": clock.rfc3339(incident.starts_at),
        "ends_at": clock.rfc3339(incident.ends_at) if incident.ends_at else None,
        "updates": [
            {"at": clock.rfc3339(update.told_at), "phase": update.phase, "text": update.text}
            for update in incident.updates.all()
        ],
    }


urlpatterns = [
    path("status", status),
    path("status.json", as_json),
    path("status/feed", feed),
    path("status/incidents/<str:incident_id>", incident, name="incident"),
]
