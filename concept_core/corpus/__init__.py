"""Rows, windows, negatives, homology and splits: from a FASTA or JSONL file to a table of labelled windows."""
