"""The dashboard's WebSocket: who may listen, who hears what, and when it ends."""

import time
from contextlib import ExitStack

import pytest
from django.conf import settings
from django.test import Client
from websockets.exceptions import ConnectionClosed, InvalidStatus

from accounts import half_logins, impersonation
from accounts.models import Membership, User, WebSession
from helixflow.lib import live
from helixflow.server import live as server_live
from tests import factories
from tests.helixflow.serving import server_command, started
from tests.helixflow.sockets import NUDGE, PATH, code_of, cookie_of, hear_all, opened
from tests.web import Web, environment_on, running_web

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def web(django_db_setup):
    with running_web() as running:
        yield running


@pytest.fixture(scope="module")
def hurried(django_db_setup):
    """The address of one that looks often who listens."""
    command = server_command("tests.helixflow.hurried_site:app")
    with started(command, environment_on(1, "http://127.0.0.1:1")) as served:
        yield f"http://127.0.0.1:{served.port}"


def refused(web: Web, *given, **named) -> int:
    with pytest.raises(InvalidStatus) as caught, opened(web.url, *given, **named):
        pass
    response = caught.value.response
    assert b'"request_id"' in response.body
    return response.status_code


def test_who_listens_hears_of_its_own_organization_and_of_no_other(web, owner, organization, member, outsider):
    theirs = outsider.memberships.get().organization_id
    with opened(web.url, cookie_of(owner)) as mine, opened(web.url, cookie_of(member)) as colleague:
        with opened(web.url, cookie_of(outsider)) as foreign:
            assert live.nudge([organization.id])
            assert mine.recv(10) == colleague.recv(10) == NUDGE
            with pytest.raises(TimeoutError):
                foreign.recv(0.3)
            assert live.nudge([theirs])
            assert foreign.recv(10) == NUDGE
        with pytest.raises(TimeoutError):
            mine.recv(0.3)


def test_many_nudges_at_once_become_few(web, owner, organization):
    with opened(web.url, cookie_of(owner)) as mine:
        for _ in range(200):
            live.nudge([organization.id])
        heard = [mine.recv(10), *hear_all(mine, silence_s=1.5)]
        assert 2 <= len(heard) <= 20  # the last is never lost, and most were one


def test_strangers_and_other_sites_are_refused(web, owner, organization):
    cookie = cookie_of(owner)
    assert refused(web) == 401
    assert refused(web, cookie.partition("=")[0] + "=madeupmadeup") == 401
    assert refused(web, cookie, origin="https://evil.example") == 403
    assert refused(web, cookie, origin="") == 403
    assert refused(web, cookie, origin=web.url.replace("http", "https")) == 403
    loner = factories.user("loner")
    assert refused(web, cookie_of(loner)) == 403
    assert refused(web, cookie, path="/dashboard/live/") == 404
    assert refused(web, cookie, path="/v1/chat/completions") == 404
    with opened(web.url, cookie) as mine:
        mine.send("ping")
        assert mine.recv(10) == "pong"


def test_a_login_without_its_second_step_hears_nothing(web, owner, organization):
    session = Client().session
    session[half_logins.KEY] = {"user": owner.id.hex, "hash": owner.get_session_auth_hash(), "at": int(time.time())}
    session.save()
    assert refused(web, f"{settings.SESSION_COOKIE_NAME}={session.session_key}") == 401


@pytest.mark.parametrize(
    "how", ["signed out", "deactivated", "removed", "password changed", "support view", "looks elsewhere"]
)
def test_a_socket_ends_with_what_allowed_it(hurried, member, organization, how):
    elsewhere = factories.organization(owner=member, name="Elsewhere")
    client = Client()
    client.force_login(member)
    membership = Membership.objects.get(user=member, organization=organization)
    session = client.session
    session["organization"] = organization.id.hex
    session.save()
    with opened(hurried, f"theme=dark; {settings.SESSION_COOKIE_NAME}={session.session_key}") as mine:
        live.nudge([organization.id])
        assert mine.recv(10) == NUDGE
        if how == "signed out":
            client.logout()
        elif how == "deactivated":
            User.objects.filter(id=member.id).update(is_active=False)
        elif how == "removed":
            membership.delete()
        elif how == "password changed":
            member.set_password("another one")
            member.save()
        elif how == "support view":
            session[impersonation.KEY] = {"organization": elsewhere.id.hex, "until": 2**40}
            session.save()
        else:
            session["organization"] = elsewhere.id.hex
            session.save()
        with pytest.raises(ConnectionClosed) as ended:
            mine.recv(10)
        assert code_of(ended.value) == server_live.ENDED


def test_who_sends_anything_but_a_ping_is_cut_off(web, owner, organization):
    cookie = cookie_of(owner)
    for sent, code in (("hello", 1008), (b"ping", 1008), ("x" * 10_000, 1009)):
        with opened(web.url, cookie) as mine:
            mine.send(sent)
            with pytest.raises(ConnectionClosed) as ended:
                mine.recv(10)
            assert code_of(ended.value) == code


def test_who_floods_is_cut_off(web, owner, organization):
    with opened(web.url, cookie_of(owner)) as mine, pytest.raises(ConnectionClosed) as ended:
        flood(mine)
    assert code_of(ended.value) == 1008


def flood(mine) -> None:
    """It may be cut off while it is still sending."""
    for _ in range(server_live.PATIENCE + 30):
        mine.send("ping")
    hear_all(mine, silence_s=10)


def test_a_user_has_so_many_sockets_and_no_more(web, owner, member, organization):
    with ExitStack() as stack:
        cookie = cookie_of(owner)
        sockets = [stack.enter_context(opened(web.url, cookie)) for _ in range(server_live.PER_USER)]
        assert refused(web, cookie) == 429
        stack.enter_context(opened(web.url, cookie_of(member)))
        sockets[0].close()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                stack.enter_context(opened(web.url, cookie))
                return
            except InvalidStatus:
                time.sleep(0.1)
        pytest.fail("its place was not free again")


def test_open_sockets_hold_up_no_stop(owner, organization):
    with running_web() as web, opened(web.url, cookie_of(owner)) as mine:
        web.process.terminate()
        with pytest.raises(ConnectionClosed) as ended:
            mine.recv(10)
        assert code_of(ended.value) == 1012
        assert web.process.wait(10) == 0
        assert "Traceback" not in web.output()


def test_a_plain_request_to_the_address_is_404(client, owner, organization):
    client.force_login(owner)
    assert client.get(PATH).status_code == 404


def test_an_ended_session_is_gone_for_good(web, owner, organization):
    cookie = cookie_of(owner)
    WebSession.objects.all().delete()
    assert refused(web, cookie) == 401
