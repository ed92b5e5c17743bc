"""What kernels have been tuned to: entries, their files, and which one a problem gets."""
