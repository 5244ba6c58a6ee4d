"""What can be asked of the administration: every operation, declared once.

The command line, the HTTP API, its document, and the client that speaks it all go by this table.
"""
