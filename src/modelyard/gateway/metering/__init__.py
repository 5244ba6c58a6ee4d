"""Metering: what each call has used, in a file before its answer leaves, and then in SQL."""
