"""From the usage streams to records and sums in PostgreSQL (docs/ledger.md)."""
