"""Settlement: how what was admitted is closed, whatever dies (docs/limits.md)."""
