"""What people read: pages of blocks, one template, one style. No job reaches it, so its colours re-run nothing."""
