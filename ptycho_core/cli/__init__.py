"""The command line: one module a group of phases, mounted by `ptycho_core.__main__`."""
