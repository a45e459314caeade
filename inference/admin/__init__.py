"""The catalogue in the admin: providers, models and deployments, with what they are doing now."""

from inference.admin import deployments, models, providers  # noqa: F401  # they register themselves
