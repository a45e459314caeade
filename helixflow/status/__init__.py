"""The status page: what is probed, what is kept of it, and how it is shown (docs/status.md)."""
