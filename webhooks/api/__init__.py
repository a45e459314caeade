"""``/v1/webhooks``: endpoints and their deliveries. Called with the JWT of a login, never with an API key."""
