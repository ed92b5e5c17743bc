"""Foreign formats: one module each, its import and its export side by side."""
