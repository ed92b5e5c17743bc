"""`python -m flopwatt`, which also works from a bare checkout."""

from flopwatt.cli import main

main()
