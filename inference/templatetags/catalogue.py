"""What pages of the apps below may show of the catalogue: they can't import it."""

from django import template

from accounts.models import ApiKey, Organization
from inference import catalogue

register = template.Library()


@register.simple_tag
def model_names(organization: Organization) -> list[str]:
    """The models an organization may call now, by name."""
    models = catalogue.current().models.values()
    return sorted(model.name for model in models if model.offered_to(organization.id))


@register.simple_tag
def missing_models(key: ApiKey) -> list[str]:
    """The names on a key's list that are no model its organization may call now."""
    return sorted(set(key.allowed_models or ()) - set(model_names(key.organization)))
