"""Disks that are full, read-only or failing, and files that somebody else deletes, moves or cuts while measuring."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))

from disks import FULL, build_failing_disk, failing, read_only, remount, small_disk
from synthetic import header, record, segment, write

from flopwatt.errors import RunFileError, WritingStopped
from flopwatt.runs.store import RunWriter, read
from flopwatt_process import flopwatt, sources, start
from simulated_runs import LONG, WORDS, resume, wait_for_records

LINES_BEFORE = 6
"""Writes that succeed: the header, the segment and four records."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_failing_disk(tmp_path_factory.mktemp("failing"))


def test_a_full_disk_keeps_what_was_measured_and_resume_goes_on_once_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", kib=120) as folder:
        path = folder / "run.jsonl"
        done = flopwatt(*WORDS, "-o", path)
        assert done.returncode == 3, done.stderr
        (said,) = [line for line in done.stderr.splitlines() if line.startswith("flopwatt:")]
        assert said == (
            f"flopwatt: {path}: no space left on device: measuring stopped, what was measured before is kept; "
            f"free some space, then continue with: flopwatt run --resume {path}"
        )
        kept = read(path)
        assert not kept.torn
        assert 0 < len(kept.records) < len(kept.header.plan)
        announced = sum(line.startswith("[") for line in done.stderr.splitlines())
        assert len(kept.records) == announced
        remount(folder, "size=16m")
        assert resume(path).records[: len(kept.records)] == kept.records


def test_a_write_that_fails_half_way_is_taken_back(tmp_path: Path, library: Path) -> None:
    path = tmp_path / "run.jsonl"
    done = flopwatt(*WORDS, "-o", path, variables=failing(library, "write", errno.EDQUOT, LINES_BEFORE))
    assert done.returncode == 3
    assert "disk quota exceeded: measuring stopped, what was measured before is kept" in done.stderr
    kept = read(path)
    assert (len(kept.records), kept.torn) == (LINES_BEFORE - 2, False)
    assert resume(path).records[: LINES_BEFORE - 2] == kept.records


def test_a_line_that_never_reached_the_disk_is_not_counted_as_measured(tmp_path: Path, library: Path) -> None:
    path = tmp_path / "run.jsonl"
    done = flopwatt(*WORDS, "-o", path, variables=failing(library, "fsync", errno.EIO, LINES_BEFORE))
    assert done.returncode == 3
    assert "input/output error: measuring stopped" in done.stderr
    assert len(read(path).records) == LINES_BEFORE - 2


def test_a_half_line_that_cannot_be_taken_back_is_cut_off_on_resume(tmp_path: Path, library: Path) -> None:
    path = tmp_path / "run.jsonl"
    variables = failing(library, "write", errno.EIO, LINES_BEFORE, no_way_back=True)
    assert flopwatt(*WORDS, "-o", path, variables=variables).returncode == 3
    kept = read(path)
    assert kept.torn
    assert len(kept.records) == LINES_BEFORE - 2
    assert resume(path).records[: LINES_BEFORE - 2] == kept.records


def test_ctrl_c_on_a_full_disk_is_still_an_interruption(tmp_path: Path, library: Path) -> None:
    path = tmp_path / "run.jsonl"
    process = start(*LONG, "-o", path, variables=failing(library, "write", errno.ENOSPC, 400))
    wait_for_records(path, 3)
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 130, log
    assert not read(path).torn


@pytest.mark.parametrize("after", [0, 1])
def test_a_disk_without_room_for_the_beginning_leaves_no_file(tmp_path: Path, library: Path, after: int) -> None:
    """The header alone, then the header and not the segment: only the first is no run yet."""
    path = tmp_path / "run.jsonl"
    done = flopwatt(*WORDS, "-o", path, variables=failing(library, "write", errno.ENOSPC, after))
    if after == 0:
        assert done.returncode == 2
        assert "no space left on device: choose a path that can be written with -o" in done.stderr
        assert list(tmp_path.iterdir()) == []
    else:
        assert done.returncode == 3
        assert len(resume(path).records) == len(read(path).header.plan)


def test_a_file_size_limit_is_named(tmp_path: Path) -> None:
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
    (tmp_path / "sitecustomize.py").write_text(limit)
    path = tmp_path / "run.jsonl"
    done = flopwatt(*WORDS, "-o", path, variables=sources(tmp_path))
    assert done.returncode == 3
    assert "file too large: measuring stopped" in done.stderr
    assert "raise the limit on file sizes (ulimit -f), then continue" in done.stderr
    assert read(path).records


def test_what_is_read_only_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert flopwatt(*WORDS, "--budget", "30s", "-o", folder / "old.jsonl").returncode == 3
    before = (folder / "old.jsonl").read_bytes()
    with read_only(folder) as closed:
        done = flopwatt(*WORDS, "-o", closed / "new.jsonl")
        assert done.returncode == 2
        assert "choose a path that can be written with -o" in done.stderr
        assert "[1/" not in done.stderr
        done = flopwatt("run", "--simulate", "h100", "--resume", closed / "old.jsonl")
        assert done.returncode == 2
        assert "give a run file that can be written to --resume" in done.stderr
        assert (closed / "old.jsonl").read_bytes() == before
        assert flopwatt("show", closed / "old.jsonl").returncode == 0


@pytest.mark.parametrize("option", ["-o", "--resume"])
@pytest.mark.parametrize("what", ["folder", "pipe", "/dev/full", "dangling", "socket"])
def test_what_is_no_file_is_no_run_file(tmp_path: Path, what: str, option: str) -> None:
    path = tmp_path / what if not what.startswith("/") else Path(what)
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "dangling":
        path.symlink_to(tmp_path / "nowhere" / "run.jsonl")
    elif what == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
    words = ("--resume", path) if option == "--resume" else (*WORDS[3:], "-o", path)
    done = flopwatt("run", "--simulate", "h100", *words, timeout=30)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"flopwatt: {path}")


def test_a_file_deleted_while_measuring_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    process = start(*LONG, "-o", path)
    wait_for_records(path, 3)
    path.unlink()
    wait_for_records(path, 6)
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"{path} was deleted while measuring: written anew as {path}" in log
    run = read(path)
    assert len(run.records) - sum(line.startswith("[") for line in log.splitlines()) in (0, 1)
    assert len(run.records) >= 6
    assert run.end is not None


def test_a_file_renamed_while_measuring_is_followed(tmp_path: Path) -> None:
    path, moved = tmp_path / "run.jsonl", tmp_path / "moved.jsonl"
    process = start(*LONG, "-o", path)
    wait_for_records(path, 3)
    path.rename(moved)
    wait_for_records(moved, 6)
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"{path} was renamed while measuring: going on in {moved}" in log
    assert f"continue with: flopwatt run --resume {moved}" in log
    assert not path.exists()
    assert read(moved).end is not None


def test_a_file_cut_while_measuring_stops_the_run_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    process = start(*LONG, "-o", path)
    wait_for_records(path, 3)
    os.truncate(path, 0)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 3, log
    assert "another program cut it while measuring" in log
    assert "start a new run" in log


def begun(path: Path) -> RunWriter:
    writer = RunWriter.create(path, header())
    writer.append(segment())
    writer.append(record(0))
    return writer


def test_a_file_replaced_while_measuring_is_kept_beside_the_other(tmp_path: Path) -> None:
    path, kept = tmp_path / "run.jsonl", tmp_path / "run-kept.jsonl"
    with begun(path) as writer:
        (tmp_path / "other").write_text("somebody else's")
        (tmp_path / "other").replace(path)
        remark = writer.append(record(1))
        assert remark == f"{path} was deleted while measuring: written anew as {kept}"
        assert writer.append(record(2)) is None
        with pytest.raises(RunFileError, match="another flopwatt is writing"):
            RunWriter.resume(kept)
    assert path.read_text() == "somebody else's"
    assert [found.id[-1] for found in read(kept).records] == ["0", "1", "2"]


def test_a_file_deleted_with_its_folder_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with begun(folder / "run.jsonl") as writer:
        (folder / "run.jsonl").unlink()
        folder.rmdir()
        with pytest.raises(WritingStopped, match="was deleted while measuring and cannot be written anew"):
            writer.append(record(1))


def test_a_file_somebody_else_writes_into_is_left_to_a_person(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with begun(path) as writer:
        with path.open("ab") as other:
            other.write(b"hello\n")
        with pytest.raises(WritingStopped, match=r"another program wrote into it .* delete the lines that are not"):
            writer.append(record(1))
    with pytest.raises(RunFileError, match=r"line 4 is broken.*delete that line"):
        read(path)


@pytest.mark.parametrize("name", FULL)
def test_every_failure_to_write_names_its_own_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    code, said, remedy = FULL[name]
    path = tmp_path / "run.jsonl"

    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    with begun(path) as writer:
        before = path.read_bytes()
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", fail)
            with pytest.raises(WritingStopped, match=f"{said}: measuring stopped.*; {re.escape(remedy)}, then") as stop:
                writer.append(record(1))
        assert stop.value.exit_code == 3
        assert path.read_bytes() == before


def test_ctrl_c_between_two_parts_of_a_line_leaves_none_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.jsonl"
    writes = os.write
    parts: list[int] = []

    def half(descriptor: int, data: bytes) -> int:
        parts.append(len(data))
        if len(parts) == 2:
            raise KeyboardInterrupt
        return writes(descriptor, data[: len(data) // 2])

    with begun(path) as writer:
        before = path.read_bytes()
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", half)
            with pytest.raises(KeyboardInterrupt):
                writer.append(record(1))
        assert path.read_bytes() == before
        assert writer.append(record(2)) is None
    assert [found.id[-1] for found in read(path).records] == ["0", "2"]


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symlink", "hard link"])
def test_two_writers_cannot_mix_whatever_they_call_the_file(tmp_path: Path, link: object) -> None:
    path, alias = write(tmp_path / "run.jsonl", record(0)), tmp_path / "alias.jsonl"
    link(path, alias)  # type: ignore[operator]
    with RunWriter.resume(path)[0], pytest.raises(RunFileError, match="another flopwatt is writing"):
        RunWriter.resume(alias)
    RunWriter.resume(alias)[0].close()
