"""Billing's part of the public API."""
