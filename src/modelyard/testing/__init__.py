"""In-memory twins and conformance suites for every port."""
