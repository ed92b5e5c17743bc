"""`python -m bootstrap.audit`: whether the pinned packages agree with each other, and have a published weakness.

Weaknesses come from the Python Packaging Advisory Database, by pip-audit. Where it cannot be reached, that is said and
is no failure: a machine without a network can still check everything else. Exit code 1 for a weakness or a conflict.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PINS = (Path(__file__).resolve().parents[2] / "constraints.txt", Path(__file__).with_name("consumers.txt"))
TIMEOUT_S = 180


def main() -> int:
    """Both checks."""
    agree = subprocess.run([sys.executable, "-m", "pip", "check"], check=False).returncode == 0
    return 0 if advisories() and agree else 1


def advisories() -> bool:
    """Whether no pinned package has a known weakness, as far as that can be known here; prints what was found."""
    files = [word for path in PINS for word in ("-r", str(path))]
    command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", *files, "--format", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        packages = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        print("audit: the advisory database gave no answer: no package was audited")
        return True
    audited = [package for package in packages if "vulns" in package]
    weak = [package for package in audited if package["vulns"]]
    for package in weak:
        known = ", ".join(found["id"] for found in package["vulns"])
        fixed = sorted({version for found in package["vulns"] for version in found["fix_versions"]})
        print(
            f"audit: {package['name']} {package['version']}: {known}; fixed in {', '.join(fixed) or 'no version yet'}"
        )
    print(f"audit: {len(audited)} of {len(packages)} pinned packages audited, {len(weak)} with a known weakness")
    return not weak


if __name__ == "__main__":
    sys.exit(main())
