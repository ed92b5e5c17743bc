"""The command line: the composition root, which parses, hands over to a command and prints."""

from flopwatt.cli import fleet, measuring, predicting, reading  # their import adds their commands
from flopwatt.cli.app import main

__all__ = ["fleet", "main", "measuring", "predicting", "reading"]
