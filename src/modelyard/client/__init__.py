"""The Python client, sync and async over one pure core."""

from modelyard.client.clients import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]
