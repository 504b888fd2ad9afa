"""What people read of a study: figures, tables, one page. No job reaches it, so its colours re-run nothing."""
