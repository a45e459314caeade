"""Who may do what with webhooks: the only getters for dashboard and API. They fetch and check; a foreign id is 404.

Members see an organization's endpoints and their log, but no secret; its owners and admins do the rest.
"""

from accounts import access
from accounts.models import Membership
from helixflow.lib import errors, ids
from webhooks.models import Delivery, Endpoint


def require_manager(membership: Membership) -> None:
    access.require_manager(membership, of="its webhooks")


def get_endpoint(membership: Membership, public_id: str) -> Endpoint:
    """Raises NotFound, whether it is another organization's, deleted or nobody's."""
    endpoint_id = access.parse_id(ids.WEBHOOK, public_id)
    rows = Endpoint.objects.of(membership.organization).select_related("organization", "created_by")
    endpoint = rows.filter(id=endpoint_id).first()
    if endpoint is None:
        raise errors.NotFound("There is no webhook endpoint with this id.")
    return endpoint


def get_delivery(membership: Membership, public_id: str) -> Delivery:
    """Also one of an endpoint that is deleted: its log stays. Raises NotFound."""
    delivery_id = access.parse_id(ids.DELIVERY, public_id)
    rows = Delivery.objects.filter(organization=membership.organization).select_related("event", "endpoint")
    delivery = rows.filter(id=delivery_id).first()
    if delivery is None:
        raise errors.NotFound("There is no delivery with this id. Old ones are dropped in time.")
    return delivery
