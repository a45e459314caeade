"""Mails and house-keeping. Arguments are JSON; links are made in the worker, so that no token lies in the broker."""

import logging
import uuid
from datetime import timedelta
from typing import Any, Final

from celery import shared_task
from celery.app.task import Task
from django import db
from django.utils import timezone

from accounts import erasure, exporting, exports, mails
from accounts.models import Export, Invitation, Organization, TokenSession, User, WebSession
from helixflow.lib import tasks

logger = logging.getLogger(__name__)
KEEP_ENDED_SESSIONS: Final = timedelta(days=30)


def enqueue(task: "Task[..., Any]", *args: str) -> bool:
    """Hand a mail to the worker; False with the broker down. The caller decides whether that matters."""
    return tasks.send(task, *args)


@tasks.mail_task
def send_verification_mail(user_id: str) -> None:
    user = User.objects.filter(id=uuid.UUID(user_id), is_active=True, email_verified_at=None).first()
    if user is not None:
        mails.send_verification(user)


@tasks.mail_task
def send_password_reset_mail(email: str) -> None:
    """To the stored address, never to the one that was typed: look-alikes compare equal in some alphabets."""
    user = User.objects.filter(email__iexact=email, is_active=True).first()
    if user is not None:
        mails.send_password_reset(user)


@tasks.mail_task
def send_email_changed_mail(user_id: str, old_email: str) -> None:
    user = User.objects.filter(id=uuid.UUID(user_id)).first()
    if user is not None:
        mails.send_email_changed(user, old_email)


@tasks.mail_task
def send_security_notice(user_id: str, notice: str, detail: str = "") -> None:
    """``notice`` is one of ``accounts.mails.SECURITY_NOTICES``, ``detail`` what its text has a place for."""
    user = User.objects.filter(id=uuid.UUID(user_id)).first()
    if user is not None:
        mails.send_security_notice(user, notice, detail)


@tasks.mail_task
def send_invitation_mail(invitation_id: str) -> None:
    waiting = Invitation.objects.filter(accepted_at=None, withdrawn_at=None, expires_at__gt=timezone.now())
    invitation = waiting.select_related("organization", "invited_by").filter(id=uuid.UUID(invitation_id)).first()
    if invitation is not None:
        mails.send_invitation(invitation)


@tasks.mail_task
def send_removed_mail(user_id: str, organization: str) -> None:
    """``organization`` is its name."""
    user = User.objects.filter(id=uuid.UUID(user_id)).first()
    if user is not None:
        mails.send_removed(user, organization)


@tasks.mail_task
def send_transferred_mail(user_id: str, organization: str) -> None:
    """``organization`` is its name."""
    user = User.objects.filter(id=uuid.UUID(user_id)).first()
    if user is not None:
        mails.send_transferred(user, organization)


@tasks.mail_task
def send_organization_deletion_mail(organization_id: str) -> None:
    """To all owners: that it is to be deleted, or that it is kept, as it stands when the mail leaves."""
    organization = Organization.objects.filter(id=uuid.UUID(organization_id)).first()
    if organization is not None:
        mails.send_organization_deletion(organization)


@tasks.mail_task
def send_account_deletion_mail(user_id: str) -> None:
    """As ``send_organization_deletion_mail``."""
    user = User.objects.filter(id=uuid.UUID(user_id)).first()
    if user is not None:
        mails.send_account_deletion(user)


@tasks.mail_task
def send_export_mail(export_id: str) -> None:
    export = Export.objects.select_related("organization", "requested_by").filter(id=uuid.UUID(export_id)).first()
    if export is not None:
        mails.send_export(export)


@shared_task
def make_export(export_id: str) -> None:
    """With PostgreSQL away the row is left as it is, and the sweeper has it made again; another fault ends it."""
    try:
        made = exporting.write(uuid.UUID(export_id))
    except (db.OperationalError, db.InterfaceError):
        raise
    except Exception:
        exporting.fail(uuid.UUID(export_id))
        raise
    if made:
        enqueue(send_export_mail, export_id)


@shared_task
def sweep_exports() -> None:
    exports.sweep()


@shared_task
def drop_export_litter() -> None:
    dropped = exporting.drop_litter()
    if dropped:
        logger.warning("dropped %d files that no export names", dropped)


@shared_task
def erase_due() -> None:
    erasure.erase_due()


@shared_task
def clear_expired_sessions() -> None:
    """Web sessions past their expiry, API sessions 30 days after theirs (support may still ask about them)."""
    now = timezone.now()
    WebSession.objects.filter(expire_date__lt=now).delete()
    TokenSession.objects.filter(expires_at__lt=now - KEEP_ENDED_SESSIONS).delete()
