"""Batches and their files: many requests handed over at once (docs/batch.md)."""
