"""The accounts' part of the public API."""
