"""Dose and overlap in ptychography: what a physics-informed network, a supervised one and LSQML see of one object.

Pure science, usable without Prefect and Slurm: generation of a synthetic scan, views of it with a chosen overlap,
training, reconstruction and comparison. `layout` names every file, `design` every constant.
"""
