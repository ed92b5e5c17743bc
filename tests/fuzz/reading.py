"""Everything in flopwatt that reads what others wrote, as functions of the path of a file."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import seeds
from judging import Finding, nothing_of_ours, printed, shown
from tame_page import assert_tame

from flopwatt.errors import FlopwattError

if TYPE_CHECKING:
    from flopwatt.runs.suites.suite import Suite


def run_file(path: Path) -> None:
    """As `show`, `check` and `run --resume --plan` read it: every statistic and table, and all of it as data."""
    from flopwatt.commands.check import check_files
    from flopwatt.commands.run import Target, resume
    from flopwatt.commands.show import show
    from flopwatt.measurement.messages import RigSpec

    with shown() as console:
        show([path], "table", None, console)
        check_files([path], console)
        resume(Target(RigSpec(device="auto"), plan_only=True), path, None, console, console)
        show([path], "parquet", path.with_suffix(".parquet"), console)
    with printed() as data:
        show([path], "json", None, console)
        json.loads(data.getvalue())
        show([path], "csv", None, console)


def compared(path: Path) -> None:
    """A run file as `compare` reads it, against a sound one and the other way round."""
    from flopwatt.commands.compare import Request, compare

    sound = _beside(path, "sound.jsonl", lambda: seeds.run_files()[0])
    with shown() as console:
        for base, new in ((path, sound), (sound, path)):
            mixed = "origin,regime,inputs,cache,dtype"
            compare(Request(base=[base], new=[new], allow_mixed=mixed), "table", None, console)


def reported(path: Path) -> None:
    """A run file as the HTML page of `report`, beside a sound one."""
    from flopwatt.commands.report import report

    page = path.with_suffix(".html")
    page.unlink(missing_ok=True)
    sound = _beside(path, "sound.jsonl", lambda: seeds.run_files()[0])
    with nothing_of_ours(), shown() as console:
        report([path, sound], page, None, (), console)
    assert_tame(page.read_text(encoding="utf-8"))


def fleet_account(path: Path) -> None:
    """A fleet run's account beside a sound run file, as `fleet report` and `fleet run --resume` read it."""
    from flopwatt.analysis.report import fleet as told
    from flopwatt.commands.fleet_report import report
    from flopwatt.fleet.folder import Folder
    from flopwatt.runs import account

    folder = path.parent / "fleet"
    folder.mkdir(exist_ok=True)
    _beside(folder / account.FILE, "sound.jsonl", lambda: seeds.run_files()[0])
    (folder / account.FILE).write_bytes(path.read_bytes())
    page = path.with_suffix(".html")
    page.unlink(missing_ok=True)
    with nothing_of_ours(), shown() as console:
        console.print(told.account_view(Folder.reopen(folder).account))
        report(folder, page, None, console)
    assert_tame(page.read_text(encoding="utf-8"))


def fitted(path: Path) -> None:
    """A run file as `calibrate` reads it, up to what it fits."""
    from flopwatt.commands.calibrate import Request, calibrate

    with nothing_of_ours(), shown() as console:
        calibrate(Request([path], path.with_suffix(".json")), console)


def imported(format: str) -> Callable[[Path], None]:
    """A foreign table of that format, imported, and shown if that went well."""

    def read(path: Path) -> None:
        from flopwatt.commands.importing import Request, import_table

        output = path.parent / f"{format}.jsonl"
        output.unlink(missing_ok=True)
        try:
            with shown() as console:
                import_table(Request(format, path, output, gpu="NVIDIA H100 80GB HBM3"), console)
        except FlopwattError:
            if output.exists():
                raise Finding("a refused table left a run file behind") from None
            raise
        run_file(output)

    return read


def suite(path: Path) -> None:
    """A suite file, planned."""
    from flopwatt.runs.suites import load_suite

    _planned(load_suite(path))
    load_suite(path, device_kind="cpu")


def model(path: Path) -> None:
    """A model file or a Hugging Face config.json, with the GEMMs of a step."""
    from flopwatt.runs.suites import load_model, suite_from_model

    _planned(suite_from_model(load_model(path)))


def _planned(suite: Suite) -> None:
    """A suite's plan as a run file's first line."""
    from flopwatt.runs.plan import Choices, build
    from flopwatt.runs.records import encode

    plan = build([suite], Choices(backends=("torch",)))
    encode(seeds.header(plan=plan.cases, suites=plan.suites))


def scenario(path: Path) -> None:
    """A scenario file."""
    from flopwatt.measurement.simulation.loading import load_scenario

    load_scenario(path)


def sensor_store(path: Path) -> None:
    """A remembered sensor, as another program may have left it: never an error."""
    from flopwatt.measurement import identity_store

    stored = path.parent / "flopwatt" / "sensors"
    stored.mkdir(parents=True, exist_ok=True)
    target = identity_store._path("board", "version")
    target.write_bytes(path.read_bytes())
    identity_store.recall("board", "version", "nvml")


def calibration(path: Path) -> None:
    """A calibration file, asked for GEMMs inside and far outside of what it was fitted to."""
    from flopwatt.commands.predict import Request, predict

    shapes = ("64x64x64", "1x16777216x7", "8x4096x4096x4096")
    with shown() as console:
        predict(Request(path, shapes), "table", console)
    with printed() as data:
        predict(Request(path, shapes), "json", console)
        _all_numbers(json.loads(data.getvalue()))
        predict(Request(path, shapes), "csv", console)


def _all_numbers(rows: list[dict[str, object]]) -> None:
    for row in rows:
        for name in ("time_s", "power_w", "energy_j"):
            low, value, high = (row[name + end] for end in ("_low", "", "_high"))
            if row["power_w"] is None and name != "time_s":
                continue
            if not all(isinstance(one, float | int) for one in (low, value, high)) or not 0 <= low <= value <= high:  # type: ignore[operator]
                raise Finding(f"{name} {value} is not within {low} to {high}")


def priced(path: Path) -> None:
    """A calibration file as `cost` reads it."""
    _price(str(path), "llama-3.1-8b")


def mixture(path: Path) -> None:
    """The config.json of a mixture of experts as `cost` reads it."""
    _price("H100-SXM5-80GB", str(path))


def _price(calibration: str, model: str) -> None:
    """One layout, so that none has to be chosen: what is in a file changes it or nothing does."""
    from flopwatt.commands.cost import Request, cost

    one = Request(
        [calibration], model, "1e12", parallel="tp=8,pp=1,dp=8", seq=2048, micro_batch=1, global_batch=64,
        recompute="full", shard="full",
    )  # fmt: skip
    with nothing_of_ours(), shown() as console:
        cost(one, "table", None, console, console)
    with nothing_of_ours(), printed() as data:
        cost(one, "json", None, console, console)
        json.loads(data.getvalue(), parse_constant=_no_number)


def claimed(path: Path) -> None:
    """A run file or a calibration, which `claims` tells apart by what is in it."""
    from flopwatt.commands.claims import claims

    with nothing_of_ours(), shown() as console:
        claims([path], "table", console)
    with nothing_of_ours(), printed() as data:
        claims([path], "json", console)
        json.loads(data.getvalue(), parse_constant=_no_number)


EXPORTED = {"calculon": (), "genz": ("llama-3.1-8b",), "llm-analysis": ("llama-3.1-8b",), "csv": ()}
"""Formats with their models; aiconfigurator's table of 70,000 rows takes too long for each input."""


def exported(path: Path) -> None:
    """A calibration file in the formats of others, and no number in them that is none."""
    from flopwatt.commands.export import Request, export

    for to, models in EXPORTED.items():
        output = path.parent / f"exported-{to}"
        shutil.rmtree(output, ignore_errors=True)
        for old in path.parent.glob(f"{output.name}*"):
            old.unlink()
        gpus, parallel = (8, "tp=8,pp=1,dp=1") if to == "llm-analysis" else (None, None)
        with contextlib.suppress(FlopwattError), shown() as console:
            export(Request(path, to, output, models, gpus=gpus, parallel=parallel), console)
        for made in (*path.parent.glob(f"{output.name}*"), *output.glob("*.json")):
            if made.is_file() and to != "csv":
                json.loads(made.read_bytes(), parse_constant=_no_number)


def _no_number(word: str) -> None:
    raise Finding(f"{word} in JSON")


def predicted_shapes(path: Path) -> None:
    """A CSV of shapes as `predict --shapes` reads it."""
    from flopwatt.commands.predict import Request, predict

    sound = _beside(path, "sound.json", lambda: seeds.calibrations()[0])
    with shown() as console:
        predict(Request(sound, shapes=path), "table", console)


def tuning_store(path: Path) -> None:
    """A tuning store, asked for a configuration, and added to."""
    from tuned_entries import GPU, SMALL, VERSIONS, WIDE, entry, problem

    from flopwatt.measurement.tuned import store
    from flopwatt.measurement.tuned.lookup import Wanted, choose

    entries = store.load(path)
    for origin in ("simulated", "measured"):
        wanted = Wanted(GPU, "triton-tiled", problem(m=1000), "burst", VERSIONS, origin)  # type: ignore[arg-type]
        choose(entries, wanted, [WIDE, SMALL])
    kept = store.add(path, [entry(problem(k=64), WIDE)])
    if kept != len(store.load(path)):
        raise Finding(f"{kept} entries were added to, {len(store.load(path))} are there")


def results_index(path: Path) -> None:
    """An index of results, made into their README: nothing in it breaks out of its cell or block."""
    from flopwatt.analysis.results_index import INDEX, render

    root = path.parent / "results"
    if not root.exists():
        (root / "h100").mkdir(parents=True)
        (root / "h100" / "run.jsonl").write_bytes(seeds.run_files()[0])
    (root / INDEX).write_bytes(path.read_bytes())
    lines = render(root).splitlines()
    fences = [number for number, line in enumerate(lines) if line.startswith("```")]
    if len(fences) != 2:
        raise Finding("a block of commands ends early")
    del lines[slice(*fences)]
    if odd := [line for line in lines if line.startswith("|") and line.replace("\\|", "").count("|") != 6]:
        raise Finding(f"a row with another number of cells: {odd[0]!r}")


def _beside(path: Path, name: str, content: Callable[[], bytes]) -> Path:
    """A sound file next to the input, made once."""
    sound = path.parent / name
    if not sound.exists():
        sound.write_bytes(content())
    return sound
