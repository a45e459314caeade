"""Mails out of templates: nothing of what users call things gets into a mail's head but as text."""

from types import SimpleNamespace

import pytest
from django.core import mail as outbox

from helixflow.lib import mail


@pytest.mark.parametrize("end", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\n", "\r\n"])
def test_a_subject_stays_one_line_whatever_ends_lines(end: str) -> None:
    context = {"user": SimpleNamespace(email="a@example.com"), "organization": "Acme"}
    mail.send(["a@example.com"], f"Join{end}Content-Type: text/html", "accounts/email/removed", context)
    head, _, _ = outbox.outbox[0].message().as_bytes().partition(b"\n\n")
    (subject,) = (line for line in head.decode().split("\n") if line.startswith("Subject:"))
    assert "Content-Type" in subject or subject.startswith("Subject: =?utf-8?")
    assert not [line for line in head.decode().split("\n") if line.startswith("Content-Type: text/html")]
