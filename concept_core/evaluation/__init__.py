"""What is measured of a concept activation vector: scores, uncertainty, thresholds, localisation, gates as data."""
