"""The compiled scan's source and how it is built."""
