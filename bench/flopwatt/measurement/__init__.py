"""Timing kernels and reading power beside them. The only part that needs a GPU, or torch."""
