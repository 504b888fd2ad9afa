"""Protein concepts on a cluster: forms, inputs, steps, what a run shows."""
