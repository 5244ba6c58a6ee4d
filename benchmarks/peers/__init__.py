"""The servers that are measured, and how each of them is started and asked."""
