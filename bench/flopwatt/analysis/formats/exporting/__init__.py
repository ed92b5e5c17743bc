"""What every export shares: which GEMMs it holds, how it is written, and the conditions that its numbers hold for."""
