"""Who may read usage: the same rules for every address of it."""

import pytest
from django.test import Client
from django.utils import timezone

from accounts import api_keys
from accounts.models import Membership, Organization
from billing.admission import snapshots
from helixflow.lib import ids
from tests.billing.readers import login, meter, new_key, with_key

pytestmark = pytest.mark.django_db

PATHS = ["/v1/usage", "/v1/usage/timeseries", "/v1/requests", "/v1/requests/{id}"]


@pytest.fixture(autouse=True)
def _cold_cache():
    snapshots.cache.clear()


@pytest.fixture
def key(organization, owner):
    return new_key(organization, owner)


@pytest.fixture
def url(request, key):
    """The address of something that is there."""
    return request.param.format(id=ids.public_id(ids.REQUEST, meter(key[0]).id))


every_address = pytest.mark.parametrize("url", PATHS, indirect=True)


@every_address
@pytest.mark.parametrize("slash", ["", "/"])
def test_an_api_key_reads_and_is_shown_its_limits(url, key, slash):
    response = with_key(key[1]).get(url + slash)
    assert response.status_code == 200
    assert set(response.json()) == {"data", "meta"}
    assert response["X-RateLimit-Limit"] == "100"
    assert int(response["X-RateLimit-Remaining"]) <= 100
    assert int(response["X-RateLimit-Reset"]) % 60 == 0


@every_address
def test_reading_counts_for_nothing(url, key):
    client = with_key(key[1])
    assert [client.get(url)["X-RateLimit-Remaining"] for _ in range(2)] == ["100", "100"]


@every_address
def test_every_member_reads_with_a_login(url, owner, member):
    for user in (owner, member):
        response = login(user).get(url)
        assert response.status_code == 200
        assert not response.has_header("X-RateLimit-Limit")


@every_address
def test_nobody_reads_without_credentials(url):
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer "}):
        response = Client(headers=headers).get(url)
        assert response.status_code == 401
        assert response["WWW-Authenticate"] == "Bearer"
        assert response.json()["error"]["code"] == "authentication_failed"


@every_address
@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("hflow_nonsense", "invalid_api_key"),
        ("eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl", "authentication_failed"),
        ("é", "authentication_failed"),
    ],
)
def test_credentials_that_are_none_are_401(url, token, code):
    response = with_key(token).get(url)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == code


@every_address
@pytest.mark.django_db(transaction=True)  # revocation is told after the commit
def test_a_revoked_key_is_refused(url, key, owner):
    with_key(key[1]).get(url)
    api_keys.revoke(key=key[0], user=owner)
    assert with_key(key[1]).get(url).status_code == 401


@every_address
def test_the_header_chooses_among_several_organizations_and_another_one_is_404(url, owner, organization, outsider):
    other = outsider.memberships.get().organization
    named = login(owner, **{"X-HelixFlow-Organization": organization.public_id})
    assert named.get(url).status_code == 200
    foreign = login(owner, **{"X-HelixFlow-Organization": other.public_id})
    assert foreign.get(url).status_code == 404
    Membership.objects.create(organization=other, user=owner)
    assert login(owner).get(url).status_code == 400
    assert named.get(url).status_code == 200


@every_address
def test_a_disabled_organization_is_403(url, key, owner, organization):
    Organization.objects.filter(id=organization.id).update(disabled_at=timezone.now())
    snapshots.cache.clear()
    for client in (with_key(key[1]), login(owner)):
        response = client.get(url)
        assert response.status_code == 403
        assert response.json()["error"]["code"] == "authorization_failed"


@every_address
def test_the_outsider_sees_nothing_of_it(url, key, outsider):
    other_key = new_key(outsider.memberships.get().organization, outsider)
    for client in (login(outsider), with_key(other_key[1])):
        response = client.get(url)
        if url.startswith("/v1/requests/"):
            assert response.status_code == 404
        assert key[0].public_id not in response.content.decode()
        assert "gpt-4" not in response.content.decode()


@pytest.mark.parametrize("url", ["/v1/usage/timeseries", "/v1/requests"], indirect=True)
def test_a_filter_on_another_organization_s_key_is_404(url, key, owner, outsider):
    assert login(owner).get(url, {"api_key": key[0].public_id}).status_code == 200
    response = login(outsider).get(url, {"api_key": key[0].public_id})
    assert response.status_code == 404
    nobodys = login(outsider).get(url, {"api_key": ids.new_id(ids.API_KEY)})
    assert response.json()["error"]["message"] == nobodys.json()["error"]["message"]


@every_address
def test_unknown_and_repeated_parameters_are_refused_by_name(url, owner):
    for query, name in (("colour=red", "colour"), ("colour=red&colour=blue", "colour")):
        response = login(owner).get(f"{url}?{query}")
        assert response.status_code == 400
        assert name in response.json()["error"]["details"]


@every_address
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_it_is_read_only(url, owner, method):
    response = getattr(login(owner), method)(url)
    assert response.status_code == 405
    assert response.json()["error"]["code"] == "invalid_request"
