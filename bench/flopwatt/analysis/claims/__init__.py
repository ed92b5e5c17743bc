"""Public claims about the compute and energy of AI, each held against measurements, published figures and models."""
