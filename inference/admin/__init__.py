"""The catalogue in the admin: providers, models and deployments, with what they are doing now. Batches too."""

from inference.admin import batches, deployments, models, providers  # noqa: F401  # they register themselves
