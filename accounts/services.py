"""What can be done with an account: sign up, verify, change e-mail address or password.

Each function is one transaction; mails leave after commit, through Celery, and never undo what was done: with the
broker down a signup stands, and its mail can be asked for again.
"""

import re
from functools import partial
from typing import Final

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import addresses, audit, sessions, tasks, web_sessions
from accounts.models import Membership, Organization, Role, User
from helixflow.lib.errors import InvalidRequest, ServiceUnavailable

HANDLE: Final = re.compile(r"[A-Za-z0-9_.-]{3,150}")
USERNAME_MAXIMUM: Final = 150
NO_MAIL: Final = "We can't send mail at this moment. Try again in a minute."

Problems = dict[str, str]


def register(*, username: str, email: str, password: str) -> User:
    """A user with an organization of their own, and a verification mail on its way.

    Raises InvalidRequest whose details name each bad or taken field.
    """
    user = User(username=username, email=User.objects.normalize_email(email))
    _refuse(_name_problems(user), _password_problems(user, password))
    user.set_password(password)
    try:
        with transaction.atomic():
            user.save(force_insert=True)
            organization = Organization.objects.create(name=_organization_name(user))
            Membership.objects.create(organization=organization, user=user, role=Role.OWNER)
            audit.record(
                "organization.created",
                organization=organization,
                user=user,
                target=organization.public_id,
                summary=f"signed up and created the organization “{organization.name}”",
            )
            transaction.on_commit(partial(tasks.enqueue, tasks.send_verification_mail, str(user.id)))
    except IntegrityError:  # someone else was faster
        _refuse(_taken(user))
        raise
    return user


def send_verification(*, user: User) -> None:
    """Send the link again. Raises ServiceUnavailable."""
    if not tasks.enqueue(tasks.send_verification_mail, str(user.id)):
        raise ServiceUnavailable(NO_MAIL, retry_after=30)


def verify_email(*, user: User, email: str) -> bool:
    """Whether ``email`` is (now) ``user``'s verified address; False if they have changed it since."""
    if user.email != email:
        return False
    with transaction.atomic():
        unverified = User.objects.filter(id=user.id, email=email, email_verified_at=None)
        if unverified.update(email_verified_at=timezone.now()):
            audit.record("account.email_confirmed", user=user, summary=f"confirmed the address {email}")
    user.refresh_from_db(fields=["email", "email_verified_at"])
    return user.email == email and user.is_verified


def change_name(*, user: User, name: str) -> None:
    user.name = name
    user.save(update_fields=["name"])


def change_email(*, user: User, email: str) -> None:
    """The new address counts at once, unverified; the old one is told. A username that was the address follows it.

    Raises InvalidRequest.
    """
    old = user.email
    email = User.objects.normalize_email(email)
    if email == old:
        return
    changed = User(id=user.id, username=email if user.username.lower() == old.lower() else user.username, email=email)
    _refuse(_name_problems(changed))
    try:
        with transaction.atomic():
            User.objects.filter(id=user.id).update(
                username=changed.username, email=changed.email, email_verified_at=None
            )
            audit.record(
                "account.email_changed",
                user=user,
                summary="changed the account's e-mail address",
                changes={"email": (old, changed.email)},
            )
            transaction.on_commit(partial(tasks.enqueue, tasks.send_verification_mail, str(user.id)))
            transaction.on_commit(partial(tasks.enqueue, tasks.send_email_changed_mail, str(user.id), old))
    except IntegrityError:
        _refuse(_taken(changed))
        raise
    user.refresh_from_db(fields=["username", "email", "email_verified_at"])


def change_password(*, user: User, password: str) -> None:
    """Set an already validated password and end every session, in browsers and of the API.

    A view that keeps the session it runs in calls ``update_session_auth_hash`` afterwards, which makes a new one of it.
    """
    user.set_password(password)
    with transaction.atomic():
        user.save(update_fields=["password"])
        _end_sessions(user)
        audit.record("account.password_changed", user=user, summary="changed the password, which ended every session")


def request_password_reset(*, email: str) -> None:
    """The same work for every address: whether it has an account is looked up by the worker.

    Raises ServiceUnavailable.
    """
    if not tasks.enqueue(tasks.send_password_reset_mail, email):
        raise ServiceUnavailable(NO_MAIL, retry_after=30)


def reset_password(*, user: User, password: str) -> None:
    """As ``change_password``, by a link in a mail, which therefore proves the address too."""
    user.set_password(password)
    user.email_verified_at = user.email_verified_at or timezone.now()
    with transaction.atomic():
        user.save(update_fields=["password", "email_verified_at"])
        _end_sessions(user)
        audit.record(
            "account.password_reset",
            user=user,
            summary="set a new password by a link in a mail, which ended every session",
        )


def _end_sessions(user: User) -> None:
    """Django's session hash ends those of browsers by itself; without their rows nobody is shown them any more."""
    sessions.end_all(user=user)
    web_sessions.end_all(user=user)


def _refuse(*problems: Problems) -> None:
    details = {field: message for found in problems for field, message in found.items()}
    if details:
        param, message = next(iter(details.items()))
        raise InvalidRequest(message, param=param, details=details)


def _name_problems(user: User) -> Problems:
    return (_address_problems(user) | _username_problems(user)) or _taken(user)


def _address_problems(user: User) -> Problems:
    try:
        addresses.check(user.email)
    except ValidationError:
        return {"email": "Enter a valid e-mail address."}
    return {}


def _username_problems(user: User) -> Problems:
    """A username with an @ is its owner's address, so that a login never names two people (``get_by_login``)."""
    if "@" in user.username:
        if user.username.lower() != user.email.lower():
            return {"username": "A username with an @ must be your e-mail address."}
        if len(user.username) > USERNAME_MAXIMUM:
            return {"username": f"A username can have at most {USERNAME_MAXIMUM} characters."}
    elif not HANDLE.fullmatch(user.username):
        return {"username": "Use 3 to 150 letters, digits, dots, dashes or underscores, or your e-mail address."}
    return {}


def _password_problems(user: User, password: str) -> Problems:
    try:
        validate_password(password, user)
    except ValidationError as error:
        return {"password": " ".join(error.messages)}
    return {}


def _taken(user: User) -> Problems:
    others = User.objects.exclude(id=user.id)
    problems = {}
    if others.filter(username__iexact=user.username).exists():
        problems["username"] = "This username is taken."
    if others.filter(email__iexact=user.email).exists():
        problems["email"] = "This e-mail address already has an account. Log in, or reset your password."
    return problems


def _organization_name(user: User) -> str:
    owner = user.username.partition("@")[0]
    return f"{owner[:80]}'s organization"
