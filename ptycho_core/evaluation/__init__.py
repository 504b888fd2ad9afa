"""The verdict: cells of the study, thresholds as data, and the judge's records. Numbers in, no image opened."""
