"""What each command of the command line does: it wires the parts, prints, and returns an exit code."""
