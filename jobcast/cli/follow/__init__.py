"""Following the output of Jobs."""
