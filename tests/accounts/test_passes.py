import pytest

from accounts import api_keys, auth, passes
from billing.admission import snapshots
from helixflow.lib import errors, ids


@pytest.fixture
def key(organization, owner):
    return api_keys.create(organization=organization, user=owner, name="CI")[0]


def test_a_pass_is_taken_for_its_key(key):
    token = passes.pass_for(key)
    auth.check_form(token)
    assert passes.key_id_of(token) == key.id
    assert snapshots.load(token).key_id == key.id


def test_nobody_makes_one_for_themselves(key, settings):
    token = passes.pass_for(key)
    other = passes.PREFIX + ids.uuid7().hex + token[-64:]
    for forged in (other, token[:-1] + ("0" if token[-1] != "0" else "1"), token.upper(), token + "0", "hpass_"):
        assert passes.key_id_of(forged) is None
        with pytest.raises(errors.InvalidApiKey):
            auth.check_form(forged)


def test_a_pass_ends_with_its_key(key, owner):
    token = passes.pass_for(key)
    api_keys.revoke(key=key, user=owner)
    with pytest.raises(errors.InvalidApiKey, match="revoked"):
        snapshots.load(token)
