"""Boards of one type held against each other: what each reaches, how far they spread, which stand out and why."""
