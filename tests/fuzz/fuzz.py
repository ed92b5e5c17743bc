"""Coverage-guided fuzzing of every reader of foreign input, by Atheris and libFuzzer.

    python tests/fuzz/fuzz.py                          a million inputs, spread over all readers
    python tests/fuzz/fuzz.py --inputs 5000 suite      fewer, and only these readers

An input fails that raises anything but FlopwattError, warns, takes over 5 s of processor time or 1 GB, starts a
process, opens a connection, or writes a file outside the reader's own folder. It is kept, its path printed, and the
exit code is 1.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mutators import Mutator

# What libFuzzer stops is a hang for good: of slow inputs `judging` times the processor, which others cannot slow down.
TIMEOUT_S = 30
MEMORY_MB = 1024
MAX_INPUT_BYTES = 16384

FORBIDDEN = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "socket.connect"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def fuzz_one(name: str, inputs: int, found: Path, folder: Path) -> None:
    """Fuzzes one reader in this process, which ends with it. folder: its own, to write to."""
    import atheris

    os.environ["XDG_CACHE_HOME"] = os.environ["XDG_DATA_HOME"] = str(folder)
    tempfile.tempdir = str(folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    # Whatever the first seed makes it import is instrumented: coverage guides what is tried next.
    with atheris.instrument_imports(include=["flopwatt", "gemmkernels"]):
        from judging import judge
        from readers import READERS

        reader = READERS[name]
        path = folder / f"input{reader.suffix}"
        judge(reader, path, next(iter(reader.seeds())))
    for number, seed in enumerate(reader.seeds()):
        if len(seed) <= MAX_INPUT_BYTES:  # cut, it would be no valid one
            (corpus / f"seed-{number}").write_bytes(seed)
    words = folder / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in reader.words))
    watch(folder)
    warnings.simplefilter("error")
    atheris.Setup(
        [
            sys.argv[0], str(corpus), f"-runs={inputs}", f"-timeout={TIMEOUT_S}", f"-report_slow_units={TIMEOUT_S}",
            f"-rss_limit_mb={MEMORY_MB}",
            f"-max_len={MAX_INPUT_BYTES}", f"-dict={words}", f"-artifact_prefix={found / name}-", "-seed=1",
            "-print_final_stats=1", "-verbosity=0",
        ],
        lambda data: judge(reader, path, data),
        **mutating(reader.mutator),
    )  # fmt: skip
    atheris.Fuzz()


def mutating(mutator: Mutator | None) -> dict[str, Callable[[bytes, int, int], bytes]]:
    """What Atheris is given to mutate with: half of the time the reader's own mutator, else libFuzzer's."""
    import atheris

    if mutator is None:
        return {}

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)
        changed = mutator(data, chance) if data and chance.random() < 0.5 else None
        if changed is None or len(changed) > most:
            mutated: bytes = atheris.Mutate(data, most)
            return mutated
        return changed

    return {"custom_mutator": mutate}


def _escaped(word: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word.encode())


def watch(folder: Path) -> None:
    """From now on this process may start nothing, connect nowhere, and write to `folder` alone."""
    from judging import Finding

    own = str(folder)

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if event in FORBIDDEN:
            raise Finding(f"{event} {arguments!r}")
        if event == "open":
            name, _, flags = arguments
            writes = isinstance(flags, int) and flags & WRITING
            if writes and isinstance(name, str | bytes):
                path = os.path.abspath(os.fsdecode(name))
                if not path.startswith((own, os.devnull)):
                    raise Finding(f"writes to {path!r}")

    sys.addaudithook(audit)


def fuzz_all(names: list[str], inputs: int, found: Path) -> int:
    """Each reader in a process of its own, two at a time; 1 where any input failed."""
    from readers import READERS

    total = sum(READERS[name].weight for name in names)
    # The kernel's own memory file system where there is one: a file is written for each input.
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

    def one(name: str) -> bool:
        share = math.ceil(inputs * READERS[name].weight / total)
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="fuzz-", dir=base) as folder:
            words = ["--inputs", str(share), "--found", str(found), "--only", name, "--folder", folder]
            done = subprocess.run(
                [sys.executable, __file__, *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
            )
        said = [line for line in done.stdout.splitlines() if not line.startswith(("INFO:", "WARNING:"))]
        stats = dict(line.removeprefix("stat::").split(":", 1) for line in said if line.startswith("stat::"))
        run = int(stats.get("number_of_executed_units", 0))
        peak_mb = int(stats.get("peak_rss_mb", 0))
        slowest_s = int(stats.get("slowest_unit_time_sec", 0))
        verdict = "ok" if done.returncode == 0 and run >= share else "FAILED"
        print(
            f"{name:<16} {run:>9} inputs {time.monotonic() - begun:7.1f} s"
            f"  slowest {slowest_s} s  peak {peak_mb:4d} MB  {verdict}",
            flush=True,
        )
        if verdict == "FAILED":
            print("\n".join(said)[-4000:])
        return verdict == "ok"

    with ThreadPoolExecutor(2) as pool:
        return 0 if all(list(pool.map(one, names))) else 1


def main() -> int:
    """Parses the words above."""
    words = _parsed()
    if words.only:
        fuzz_one(words.only, words.inputs, words.found, words.folder)
        return 0
    words.found.mkdir(parents=True, exist_ok=True)
    code = fuzz_all(words.readers, words.inputs, words.found.resolve())
    if not any(words.found.iterdir()):
        shutil.rmtree(words.found)
    return code


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*", metavar="READER")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="in all, over all readers")
    parser.add_argument("--found", type=Path, default=Path("fuzz-findings"), help="where failing inputs are kept")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.only:
        return words  # before anything of flopwatt is imported, which is to be instrumented
    from readers import READERS

    words.readers = words.readers or list(READERS)
    if unknown := set(words.readers) - set(READERS):
        parser.error(f"no reader {', '.join(sorted(unknown))}: choose from {', '.join(READERS)}")
    return words


if __name__ == "__main__":
    sys.exit(main())
