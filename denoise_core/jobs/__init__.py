"""The work of a cluster job, one module each: a typed request in, a typed receipt out (`study_core.job`).

A receipt holds paths, hashes and figures, never tensors. One module a job, so that what a job's result depends on is
what its own module can reach: an edit of the audit re-runs no training.
"""
