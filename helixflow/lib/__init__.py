"""What every app may use and what uses no app: ids, errors, clock, crypto, Redis, environment."""
