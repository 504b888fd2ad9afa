"""Concept activation vectors: probe, direction, null and their files."""
