"""Benchmarks of Modelyard: one question a file, a baseline in the same run, results as JSON."""
