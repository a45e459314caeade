"""The web process: uvicorn hardened (``workers``, ``protocol``), and what is answered before Django. docs/server.md."""
