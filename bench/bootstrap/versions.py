"""Versions: comparing them, and the constraints under which pip leaves a reused torch where it is."""

from __future__ import annotations

import re

MIN_PYTHON = (3, 11)
TESTED_PYTHONS = ((3, 11), (3, 12), (3, 13))

MIN_VERSIONS = {"torch": (2, 11), "triton": (3, 6), "numpy": (1, 26)}
"""The floors of pyproject.toml."""

TRITON_OF_TORCH: dict[tuple[int, ...], str] = {
    (2, 11): "3.6",
    (2, 12): "3.7",
    (2, 13): "3.7",
    (2, 14): "3.8",
    (2, 15): "3.9",
}
"""The triton that each torch is built against, for a reused torch that came without one."""

PINNED_TORCH_CUDA = "13.0"
PINNED_TORCH_DRIVER = (580,)
"""Oldest driver major version for that CUDA. Source: NVIDIA, "CUDA Compatibility", minor version compatibility."""


def parse_version(text: str) -> tuple[int, ...]:
    """The release numbers of a version, trailing zeros dropped; a pre-release ends in -1, below its release."""
    match = re.match(r"(\d+(?:\.\d+)*)(\.?(?:a|b|rc|dev)\d*)?", text)
    if match is None:
        return ()
    release = [int(part) for part in match.group(1).split(".")]
    while len(release) > 1 and release[-1] == 0:
        release.pop()
    return (*release, -1) if match.group(2) else tuple(release)


def at_least(text: str | None, floor: tuple[int, ...]) -> bool:
    """Whether version `text` is `floor` or newer; a pre-release of `floor` itself is not."""
    version = parse_version(text or "")
    width = max(len(version), len(floor))
    return version + (0,) * (width - len(version)) >= floor + (0,) * (width - len(floor))


def pin_name(line: str) -> str:
    """The normalised name that a line of constraints.txt pins; empty for a comment."""
    return re.sub(r"[-_.]+", "-", line.partition("#")[0].partition("==")[0].strip()).lower()


def effective_constraints(pins: str, reused: dict[str, str]) -> str:
    """`pins`, with a reused torch and triton held as they are and their companions unpinned.

    reused: distribution → version of torch, what torch needs, triton and numpy; empty when no torch is reused.
    """
    if not reused:
        return pins
    held = {name: reused[name] for name in ("torch", "triton") if at_least(reused.get(name), MIN_VERSIONS[name])}
    # pip keeps what is installed and unpinned as long as it satisfies whoever asks for it.
    unpinned = {"torch", "triton"} | set(reused)
    if not at_least(reused.get("numpy"), MIN_VERSIONS["numpy"]):
        unpinned.discard("numpy")
    kept = [line for line in pins.splitlines() if pin_name(line) not in unpinned]
    kept += [f"{name}=={version}" for name, version in held.items()]
    triton = held.get("triton")
    if triton is None:
        triton = TRITON_OF_TORCH.get(parse_version(reused["torch"])[:2])
        kept += [f"triton=={triton}.*"] if triton else []
    if triton and not at_least(triton, (3, 7)):
        # Triton 3.6 interprets no kernel under numpy 2.4: https://github.com/triton-lang/triton/issues/9171
        kept = [line for line in kept if pin_name(line) != "numpy"] + ["numpy<2.4"]
    return "\n".join(kept) + "\n"
