"""Modelyard: any model becomes a governed network service."""

__version__ = "0.1.0"
