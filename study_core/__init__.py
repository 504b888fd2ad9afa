"""The ground floor that every tenant and the house share: errors, files, plans, jobs, gates, verdicts, run folders.

Standard library, pydantic and jinja2 only, so that it can be used on a node. It knows no science and no scheduler.
"""
