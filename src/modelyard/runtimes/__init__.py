"""One file per format: a verified bundle becomes a runtime that answers batches."""
