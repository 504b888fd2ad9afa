"""What people read of a study: tables, pictures, one page. No job reaches it, so its colours re-run nothing."""
