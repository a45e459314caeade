"""Answers kept for a while: for retries under an Idempotency-Key, and in an organization's response cache.

``idempotency`` and ``response_cache`` have the rules, ``kept`` the answer itself, ``room`` how much of it all Redis may
hold. What is kept is sealed (``sealing``): Redis alone opens nothing.
"""
