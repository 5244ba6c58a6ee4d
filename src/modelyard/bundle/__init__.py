"""The package format: manifest, digests, trust check, archive."""
