"""What an organization and its operators see of usage (docs/usage-api.md)."""
