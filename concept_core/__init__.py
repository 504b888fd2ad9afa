"""Protein concepts in protein language models: directions of a concept, whether the model knows more than controls.

Pure science: it knows neither Prefect nor submitit, nor the other cores.
"""
