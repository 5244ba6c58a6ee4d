"""The administration over HTTP, at `/api/v1`: the table of operations, served."""
