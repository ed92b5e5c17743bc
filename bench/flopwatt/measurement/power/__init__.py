"""Power sensors: what they answer, the process that polls them, and their stand-ins."""
