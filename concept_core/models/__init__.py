"""Protein language models behind one protocol, and the small one that this package trains itself."""
