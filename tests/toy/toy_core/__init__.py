"""The smallest science: count the words of a text. The executable definition of a tenant, beside three more files."""
