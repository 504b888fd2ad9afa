"""One module a tenant; each declares `TENANT`, and is found by that alone."""
