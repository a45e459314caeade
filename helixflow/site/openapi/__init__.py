"""The OpenAPI description of everything under ``/v1``: ``document.build`` makes it, ``/docs/api`` is drawn from it."""
