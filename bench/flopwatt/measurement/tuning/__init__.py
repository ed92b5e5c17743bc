"""Finding the best configuration of a kernel: what to try, what the compiler makes of it, which one won."""
