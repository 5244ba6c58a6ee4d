"""One file per format: a bundle becomes a runtime."""
