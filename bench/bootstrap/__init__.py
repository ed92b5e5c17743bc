"""Makes `.venv` for `make`, reusing a torch this machine already has. Standard library only; not part of the package.

It keeps to syntax that Python 3.8 reads, so that an old interpreter gets one clear line instead of a traceback.
"""
