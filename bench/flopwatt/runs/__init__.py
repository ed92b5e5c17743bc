"""What a run is: its plan, its records, its file, and what its raw samples mean. Needs no torch and no GPU."""
