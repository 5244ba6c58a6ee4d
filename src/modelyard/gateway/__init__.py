"""Admit and settle: the gate that every call passes."""
