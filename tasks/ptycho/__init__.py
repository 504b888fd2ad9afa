"""The dose and overlap study on a cluster: its form, its jobs, its matrix, what a run shows."""
