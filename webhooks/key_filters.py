"""What becomes of an endpoint's filter when a key that it names is rotated."""

from accounts.models import ApiKey
from webhooks.models import Endpoint


def hand_over(key: ApiKey, successor: ApiKey) -> None:
    """Who asked for the events of ``key`` gets its successor's too. In the transaction that rotates it."""
    endpoints = Endpoint.objects.filter(
        organization_id=key.organization_id, deleted_at=None, api_key_ids__contains=[key.id]
    )
    for endpoint in endpoints.select_for_update(no_key=True).order_by("id"):
        endpoint.api_key_ids = [*(endpoint.api_key_ids or []), successor.id]
        endpoint.save(update_fields=["api_key_ids"])
