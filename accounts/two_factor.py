"""Two-factor authentication: codes of an authenticator app (RFC 6238), and recovery codes for when it is lost.

Each look at a code locks the account's row, so that of two logins with one code one is refused. A wrong code is
written down, in a transaction that commits: the next may follow after 1, 2, 4, … seconds, at most 17 minutes.
"""

import base64
import io
import math
import os
import re
import secrets
from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import Any, Final
from urllib.parse import quote, urlencode

import segno
from django.db import transaction
from django.utils import timezone
from django_otp.oath import TOTP

from accounts import audit, auth, tasks
from accounts.models import User
from accounts.two_factor_models import RecoveryCode, TwoFactor
from helixflow.lib import crypto, errors

ISSUER: Final = "HelixFlow"
SECRET_BYTES: Final = 20
TOLERANCE: Final = 1  # steps of 30 s that a phone's clock may be off
CODES: Final = 10
CODE_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that is read as something else
CODE_LENGTH: Final = 10  # 49 bits: with the waits between tries more than enough
MOST_FAILURES: Final = 11  # counted: the wait doubles up to 1,024 s, and knowing a password locks nobody out for days
SET_UP_WITHIN: Final = timedelta(minutes=30)  # of a secret that was shown and not confirmed
TELL_AT: Final = 3  # wrong codes in a row that the owner is told of
_APP_CODE: Final = re.compile(r"[0-9]{6}")

WRONG: Final = "This code is wrong, was used already, or has passed. Try the next one, or a recovery code."


class Proof(StrEnum):
    APP = "a code of the authenticator app"
    RECOVERY_CODE = "a recovery code"


def is_on(user: User) -> bool:
    return TwoFactor.objects.filter(user=user).exclude(confirmed_at=None).exists()


def of(user: User) -> TwoFactor | None:
    """The account's, confirmed or only begun."""
    return TwoFactor.objects.filter(user=user).first()


def codes_left(user: User) -> int:
    return RecoveryCode.objects.filter(user=user, used_at=None).count()


@transaction.atomic
def begin(*, user: User) -> TwoFactor:
    """A new secret for an app, which counts for nothing until ``turn_on``. Raises InvalidRequest if it is on."""
    _lock_user(user)
    TwoFactor.objects.filter(user=user, confirmed_at=None).delete()
    if is_on(user):
        raise errors.InvalidRequest("Two-factor authentication is on already. Turn it off to set up another app.")
    secret = base64.b32encode(os.urandom(SECRET_BYTES)).decode()
    return TwoFactor.objects.create(user=user, sealed_secret=crypto.encrypt(secret))


@transaction.atomic
def turn_on(*, user: User, code: str) -> list[str]:
    """The recovery codes, which nobody can see again. ``code`` proves that the app has the secret that was begun.

    Raises InvalidRequest.
    """
    row = _lock(user)
    if row is None or row.confirmed_at is not None:
        raise errors.InvalidRequest("There is nothing to confirm. Begin to set it up.")
    if not _match_app(row, _clean(code)):
        raise errors.InvalidRequest("This is not the code that the app shows now. Try the next one.", param="code")
    row.confirmed_at = timezone.now()
    row.save()
    codes = _replace_codes(user)
    audit.record("two_factor.turned_on", user=user, summary="turned two-factor authentication on")
    _tell(user, "two_factor_on")
    return codes


def prove(*, user: User, code: str) -> Proof:
    """How ``code`` proves that whoever gave the password is ``user``. It proves it once.

    Raises AuthenticationFailed about ``otp``; RateLimitExceeded while the wait after a wrong one lasts.
    """
    with transaction.atomic():
        row = _lock(user)
        if row is None or row.confirmed_at is None:
            raise errors.AuthenticationFailed("Two-factor authentication is off. Log in anew.")
        _require_calm(row)
        proof = _match(row, _clean(code))
        if proof is None:
            _note_failure(row)
        elif row.throttling_failure_count:
            row.throttle_reset()
    if proof is None:
        raise errors.AuthenticationFailed(WRONG, param="otp")
    return proof


def new_codes(*, user: User, code: str) -> list[str]:
    """In place of all recovery codes before. ``code`` as for ``prove``, which says what is raised."""
    prove(user=user, code=code)
    with transaction.atomic():
        if _lock(user) is None:
            raise errors.InvalidRequest("Two-factor authentication is off.")
        codes = _replace_codes(user)
        audit.record("two_factor.codes_made", user=user, summary="made new recovery codes")
        _tell(user, "two_factor_codes")
    return codes


def turn_off(*, user: User, code: str) -> None:
    """Raises what ``prove`` does."""
    prove(user=user, code=code)
    with transaction.atomic():
        if _forget(user):
            audit.record("two_factor.turned_off", user=user, summary="turned two-factor authentication off")
            _tell(user, "two_factor_off")


@transaction.atomic
def remove(*, user: User, by: User) -> bool:
    """For support, once somebody has lost their device and codes and proved who they are. Whether it was on.

    Raises AuthorizationFailed: whoever removes that of staff is a superuser, and nobody removes their own.
    """
    if user == by:
        raise errors.AuthorizationFailed("Turn your own off on the security page, which asks for a code.")
    if (user.is_staff or user.is_superuser) and not by.is_superuser:
        raise errors.AuthorizationFailed("Only superusers remove the second factor of staff.")
    was_on = _forget(user)
    if was_on:
        audit.record(
            "two_factor.removed",
            user=by,
            target=user.public_id,
            summary=f"removed two-factor authentication from the account {user.email}",
        )
        _tell(user, "two_factor_removed")
    return was_on


def secret_of(row: TwoFactor) -> str:
    """In base32. Raises crypto.Undecryptable."""
    return crypto.decrypt(row.sealed_secret)


def qr_code(row: TwoFactor) -> str:
    """What an authenticator app scans, as SVG: black on white whatever the theme, since cameras want it so."""
    secret = secret_of(row)
    label = quote(f"{ISSUER}:{row.user.email}")
    address = f"otpauth://totp/{label}?{urlencode({'secret': secret, 'issuer': ISSUER})}"
    drawing = io.BytesIO()
    segno.make(address, micro=False, error="m").save(
        drawing, kind="svg", xmldecl=False, svgns=False, nl=False, omitsize=True, light="white", svgclass=None
    )
    return drawing.getvalue().decode()


def _match(row: TwoFactor, code: str) -> Proof | None:
    if _APP_CODE.fullmatch(code):
        if not _match_app(row, code):
            return None
        row.save(update_fields=["last_step"])
        return Proof.APP
    unused = RecoveryCode.objects.filter(user=row.user, digest__in=_digests(row.user, code), used_at=None)
    if not unused.update(used_at=timezone.now()):
        return None
    left = codes_left(row.user)
    audit.record(
        "two_factor.recovery_code_used",
        user=row.user,
        summary="used a recovery code",
        changes={"left": (left + 1, left)},
    )
    _tell(row.user, "two_factor_code_used", str(left))
    return Proof.RECOVERY_CODE


def _match_app(row: TwoFactor, code: str) -> bool:
    """Sets ``last_step``, unsaved. django-otp compares numbers, so the form of ``code`` is checked here."""
    if not _APP_CODE.fullmatch(code):
        return False
    totp = TOTP(base64.b32decode(secret_of(row)))
    totp.time = timezone.now().timestamp()
    if not totp.verify(int(code), TOLERANCE, row.last_step + 1):
        return False
    row.last_step = totp.t()
    return True


def _require_calm(row: TwoFactor) -> None:
    if not row.throttling_failure_count:
        return
    delay = timedelta(seconds=row.get_throttle_factor() * 2 ** (row.throttling_failure_count - 1))
    left = (row.throttling_failure_timestamp + delay - timezone.now()).total_seconds()
    if left > 0:
        wait = math.ceil(left)
        seconds = "second" if wait == 1 else "seconds"
        raise errors.RateLimitExceeded(f"Each wrong code makes the next one wait: {wait} {seconds}.", retry_after=wait)


def _note_failure(row: TwoFactor) -> None:
    """One line and one mail for a burst: whoever has the password could fill the log and the inbox otherwise."""
    row.throttle_increment(commit=False)
    if row.throttling_failure_count == TELL_AT:
        audit.record("two_factor.refused", user=row.user, summary=f"gave {TELL_AT} wrong codes in a row")
        _tell(row.user, "two_factor_refused")
    row.throttling_failure_count = min(row.throttling_failure_count, MOST_FAILURES)
    row.save(update_fields=["throttling_failure_count", "throttling_failure_timestamp"])


def _replace_codes(user: User) -> list[str]:
    codes = [_new_code() for _ in range(CODES)]
    RecoveryCode.objects.filter(user=user).delete()
    RecoveryCode.objects.bulk_create(RecoveryCode(user=user, digest=_digests(user, _clean(code))[0]) for code in codes)
    return codes


def _new_code() -> str:
    letters = "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))
    return f"{letters[:5]}-{letters[5:]}"


def _digests(user: User, code: str) -> Sequence[bytes]:
    """Under every pepper, as with API keys; the first is used."""
    return auth.digests(f"recovery-code:{user.id.hex}:{code}")


def _clean(code: str) -> str:
    """People copy codes with the gaps that apps and we put into them."""
    return re.sub(r"[\s-]", "", code).lower()


def _forget(user: User) -> bool:
    _lock_user(user)
    was_on = is_on(user)
    TwoFactor.objects.filter(user=user).delete()
    RecoveryCode.objects.filter(user=user).delete()
    return was_on


def _lock(user: User) -> TwoFactor | None:
    row: TwoFactor | None = (
        TwoFactor.objects.select_for_update(of=("self",)).select_related("user").filter(user=user).first()
    )
    return row


def _lock_user(user: User) -> None:
    User.objects.select_for_update(no_key=True).get(id=user.id)


def _tell(user: User, notice: str, *details: Any) -> None:
    transaction.on_commit(partial(tasks.enqueue, tasks.send_security_notice, str(user.id), notice, *details))
