"""The report: one self-contained HTML page, or its figures as PNG, from run files."""
