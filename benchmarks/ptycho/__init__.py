"""Benchmarks of the dose and overlap study."""
