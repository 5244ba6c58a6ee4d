"""Several workers on one port: watched, drained and replaced by one supervisor.

Knows processes, sockets and messages; no model, no registry and no protocol. The supervisor's own
process imports nothing heavier than asyncio and msgspec.
"""
