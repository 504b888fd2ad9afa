"""The commands of `python -m concept_core`, a module for each kind of work."""
