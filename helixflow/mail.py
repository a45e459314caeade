"""E-mail where none is sent: ``EMAIL_URL=console://``, the default in development."""

from django.core.mail import EmailMessage
from django.core.mail.backends import console


class EmailBackend(console.EmailBackend):
    """Shows a mail in the log as its reader would see it, without headers and markup, so that its link is found."""

    def write_message(self, message: EmailMessage) -> None:
        self.stream.write(f"mail to {', '.join(message.to)}: {message.subject}\n\n{message.body.strip()}\n\n")
