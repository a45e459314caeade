"""Time, in the two forms that leave the platform: RFC 3339 in UTC with ``Z``, and whole epoch seconds."""

from datetime import UTC, datetime


def now() -> datetime:
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """``2024-01-01T00:00:00Z``, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
