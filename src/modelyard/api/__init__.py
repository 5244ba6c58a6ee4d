"""Bytes to calls and back, one package a protocol."""
