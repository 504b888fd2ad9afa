"""Names of studies as their initiatives wrote them; the work is done by the cores."""
