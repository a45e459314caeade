"""Admission: whether a request may go on, counted in Redis (docs/limits.md)."""
