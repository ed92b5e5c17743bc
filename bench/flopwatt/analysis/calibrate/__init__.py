"""Fitting a predictor of GEMM time, power and energy to runs, and using it."""
