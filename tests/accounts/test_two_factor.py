"""What proves a login besides the password: codes of an app and recovery codes, each once."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import connection

from accounts import two_factor
from accounts.models import AuditEvent, User
from accounts.two_factor import Proof
from accounts.two_factor_models import RecoveryCode, TwoFactor
from helixflow.lib import crypto
from helixflow.lib.errors import (
    AuthenticationFailed,
    AuthorizationFailed,
    HelixError,
    InvalidRequest,
    RateLimitExceeded,
)
from tests import factories
from tests.accounts.codes import code_of, turned_on, wrong_code

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 23, 20, 0, 5, tzinfo=UTC)
STEP = timedelta(seconds=30)


@pytest.fixture
def clock():
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


def test_it_is_off_until_a_code_confirms_the_app(owner, clock, inbox):
    row = two_factor.begin(user=owner)
    assert not two_factor.is_on(owner)
    with pytest.raises(InvalidRequest, match="not the code"):
        two_factor.turn_on(user=owner, code=wrong_code(two_factor.secret_of(row)))
    assert not two_factor.is_on(owner)
    codes = two_factor.turn_on(user=owner, code=code_of(two_factor.secret_of(row)))
    assert two_factor.is_on(owner)
    assert len(set(codes)) == 10
    assert inbox[-1].subject.startswith("Two-factor authentication is on")


def test_a_secret_that_was_shown_before_confirms_nothing(owner, clock):
    seen = two_factor.secret_of(two_factor.begin(user=owner))
    two_factor.begin(user=owner)
    with pytest.raises(InvalidRequest):
        two_factor.turn_on(user=owner, code=code_of(seen))


def test_what_is_on_is_not_begun_again(owner, clock):
    secret, codes = turned_on(owner)
    with pytest.raises(InvalidRequest, match="on already"):
        two_factor.begin(user=owner)
    with pytest.raises(InvalidRequest, match="nothing to confirm"):
        two_factor.turn_on(user=owner, code=code_of(secret, steps=1))
    assert two_factor.prove(user=owner, code=codes[0]) is Proof.RECOVERY_CODE


def test_nothing_that_logs_in_is_stored_in_clear(owner, clock):
    secret, codes = turned_on(owner)
    row = TwoFactor.objects.get()
    assert secret not in row.sealed_secret
    assert crypto.decrypt(row.sealed_secret) == secret
    digests = [bytes(digest) for digest in RecoveryCode.objects.values_list("digest", flat=True)]
    assert all(len(digest) == 32 for digest in digests)
    assert not {code.replace("-", "").encode() for code in codes} & set(digests)


@pytest.mark.parametrize(("steps", "good"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)])
def test_a_phone_may_be_half_a_minute_off(owner, clock, steps, good):
    secret, _ = turned_on(owner)
    clock.shift(10 * STEP)
    code = code_of(secret, steps=steps)
    if good:
        assert two_factor.prove(user=owner, code=code) is Proof.APP
    else:
        with pytest.raises(AuthenticationFailed):
            two_factor.prove(user=owner, code=code)


def test_a_code_is_good_once_and_so_is_each_before_it(owner, clock):
    secret, _ = turned_on(owner)
    clock.shift(10 * STEP)
    before, now = code_of(secret, steps=-1), code_of(secret)
    assert two_factor.prove(user=owner, code=now) is Proof.APP
    for used in (now, before):
        with pytest.raises(AuthenticationFailed):
            two_factor.prove(user=owner, code=used)
        clock.shift(timedelta(seconds=5))  # the wait after a wrong one
    assert two_factor.prove(user=owner, code=code_of(secret, steps=1)) is Proof.APP


@pytest.mark.parametrize("spelled", ["{} ", "{0[0]}{0[1]}{0[2]} {0[3]}{0[4]}{0[5]}"])
def test_a_code_may_have_gaps(owner, clock, spelled):
    secret, _ = turned_on(owner)
    clock.shift(10 * STEP)
    assert two_factor.prove(user=owner, code=spelled.format(code_of(secret))) is Proof.APP


@pytest.mark.parametrize("code", ["", "12345", "1234567", "-1", "١٢٣٤٥٦", "a" * 10_000, "0x1234", "½½½½½½"])
def test_what_is_no_code_is_refused(owner, clock, code):
    turned_on(owner)
    with pytest.raises(AuthenticationFailed) as refused:
        two_factor.prove(user=owner, code=code)
    assert refused.value.details == {"otp": two_factor.WRONG}


def test_a_recovery_code_is_good_once_and_its_owner_hears_of_it(owner, clock, inbox):
    _, codes = turned_on(owner)
    assert two_factor.prove(user=owner, code=codes[0].upper().replace("-", " ")) is Proof.RECOVERY_CODE
    assert two_factor.codes_left(owner) == 9
    assert "You have 9 left" in inbox[-1].body
    with pytest.raises(AuthenticationFailed):
        two_factor.prove(user=owner, code=codes[0])


def test_a_recovery_code_of_somebody_else_is_none(owner, member, clock):
    _, codes = turned_on(owner)
    turned_on(member)
    with pytest.raises(AuthenticationFailed):
        two_factor.prove(user=member, code=codes[0])
    assert two_factor.codes_left(owner) == 10


def test_after_a_change_of_the_pepper_recovery_codes_go_on(owner, clock, settings):
    _, codes = turned_on(owner)
    settings.KEY_PEPPERS = ["another pepper, which is now the first", *settings.KEY_PEPPERS]
    assert two_factor.prove(user=owner, code=codes[0]) is Proof.RECOVERY_CODE


def test_each_wrong_code_doubles_the_wait(owner, clock):
    secret, _ = turned_on(owner)
    waits = []
    for _ in range(14):
        with pytest.raises(AuthenticationFailed):
            two_factor.prove(user=owner, code=wrong_code(secret))
        with pytest.raises(RateLimitExceeded) as refused:
            two_factor.prove(user=owner, code=code_of(secret, steps=1))
        waits.append(refused.value.retry_after)
        clock.shift(timedelta(seconds=refused.value.retry_after or 0))
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024, 1024]
    assert two_factor.prove(user=owner, code=code_of(secret)) is Proof.APP
    assert TwoFactor.objects.get().throttling_failure_count == 0


def test_a_burst_of_wrong_codes_is_told_once(owner, clock, inbox):
    secret, _ = turned_on(owner)
    for _ in range(6):
        with pytest.raises(AuthenticationFailed):
            two_factor.prove(user=owner, code=wrong_code(secret))
        clock.shift(timedelta(hours=1))
    assert AuditEvent.objects.filter(action="two_factor.refused").count() == 1
    assert [mail.subject for mail in inbox].count("Wrong codes were tried · HelixFlow") == 1


def test_new_codes_take_the_place_of_those_before(owner, clock, inbox):
    secret, old = turned_on(owner)
    clock.shift(STEP)
    new = two_factor.new_codes(user=owner, code=code_of(secret))
    assert not set(new) & set(old)
    with pytest.raises(AuthenticationFailed):
        two_factor.prove(user=owner, code=old[0])
    clock.shift(STEP)
    assert two_factor.prove(user=owner, code=new[0]) is Proof.RECOVERY_CODE


def test_turning_it_off_takes_a_code_and_leaves_nothing(owner, clock, inbox):
    secret, _ = turned_on(owner)
    clock.shift(STEP)
    with pytest.raises(AuthenticationFailed):
        two_factor.turn_off(user=owner, code=wrong_code(secret))
    assert two_factor.is_on(owner)
    clock.shift(STEP)
    two_factor.turn_off(user=owner, code=code_of(secret))
    assert not two_factor.is_on(owner)
    assert not RecoveryCode.objects.exists()
    assert inbox[-1].subject.startswith("Two-factor authentication is off")


def test_support_removes_it_audited_and_told(owner, clock, inbox):
    operator = factories.superuser("operator")
    turned_on(owner)
    assert two_factor.remove(user=owner, by=operator)
    assert not two_factor.remove(user=owner, by=operator)
    assert not two_factor.is_on(owner)
    event = AuditEvent.objects.get(action="two_factor.removed")
    assert (event.user_id, event.target) == (operator.id, owner.public_id)
    assert inbox[-1].to == [owner.email]


def test_only_superusers_remove_a_superusers(owner, clock):
    root, support = factories.superuser("root"), factories.user("support")
    turned_on(root)
    with pytest.raises(AuthorizationFailed):
        two_factor.remove(user=root, by=support)
    assert two_factor.is_on(root)
    assert two_factor.remove(user=root, by=factories.superuser("another"))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["app", "recovery code"])
def test_of_many_logins_with_one_code_one_passes(kind):
    owner = factories.user("owner")
    secret, codes = turned_on(owner)
    code = codes[0] if kind == "recovery code" else code_of(secret, steps=1)
    outcomes: list[object] = []
    barrier = threading.Barrier(6)

    def log_in() -> None:
        barrier.wait(timeout=10)
        try:
            outcomes.append(two_factor.prove(user=User.objects.get(id=owner.id), code=code))
        except HelixError as refused:
            outcomes.append(type(refused))
        finally:
            connection.close()

    threads = [threading.Thread(target=log_in) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert len(outcomes) == 6
    assert len([outcome for outcome in outcomes if isinstance(outcome, Proof)]) == 1
