"""What a run file must not tell: where it was measured, by whom, on which board."""

from __future__ import annotations

import re
import socket
import sys
import tempfile
from pathlib import Path

USER = "quillonfitzgerald"
"""A user's name that occurs in no English sentence."""

PATH = re.compile(r"""(?<![\w./:…])/(?!(?:sys|proc|dev)/)[\w.~-]+/""")
UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")


def assert_anonymous(path: Path, *others: str) -> None:
    """Fails where a file holds a path, a user, a host or a UUID, or one of `others`."""
    text = path.read_text()
    assert not UUID.findall(text)
    assert not PATH.findall(text)
    named = {USER, "somebody", tempfile.gettempdir(), sys.prefix, str(path.parent), str(Path.cwd()), *others}
    named |= {str(Path.home())} if len(str(Path.home())) > 1 else set()
    for word in sorted(named):
        assert word not in text, f"{path.name} tells {word!r}"
    host = re.escape(socket.gethostname())
    assert not re.search(rf"(?<![\w-]){host}(?![\w-])", text), f"{path.name} tells the host's name"
