"""The Python client, sync and async over one pure core."""
