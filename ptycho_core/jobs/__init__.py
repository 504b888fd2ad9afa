"""What a node is asked to do, one module a function, so that a job depends on what it reaches and on nothing else."""
