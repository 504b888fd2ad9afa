"""What people read of a run: the report, the auditor's documents, the replay of a verdict, a campaign's review."""
