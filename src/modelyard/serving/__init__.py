"""Calls to runtimes: endpoints, batches, lanes, the exchange, the node."""
