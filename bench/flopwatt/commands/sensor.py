"""`flopwatt doctor --sensor`: identifies the power sensor under a switched load, and says what that means for watts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from flopwatt.commands.run import start
from flopwatt.commands.words import one_of
from flopwatt.errors import WorkerError
from flopwatt.measurement.messages import Broken, Hello, Identified, RigSpec
from flopwatt.measurement.perturbation import TARGET
from flopwatt.measurement.worker_client import WorkerDied
from flopwatt.runs.effort import SENSOR_PERIODS
from flopwatt.runs.identification import UNIDENTIFIED
from flopwatt.runs.records import SensorIdentity
from flopwatt.text import printable

FORMATS: Final = ("table", "json")


class SensorReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `--format json` prints. not_stored: why later runs will not know it; None where they will."""

    origin: str
    gpu: str
    board_id: str | None
    driver: str | None
    sensor: SensorIdentity
    idle_w: float | None
    idle_context_w: float | None
    elapsed_s: float
    not_stored: str | None


def sensor(spec: RigSpec, format: str, console: Console, log: Console) -> int:
    """Identifies the sensor of one device and prints what it is; 1 where nothing could be told."""
    one_of("format", format, FORMATS)
    report = _identify(spec, log)
    if format == "json":
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        console.print(view(report))
    return 1 if report.sensor.method == UNIDENTIFIED else 0


def _identify(spec: RigSpec, log: Console) -> SensorReport:
    worker = start(spec, log)
    try:
        if worker.hello.environment.kind == "cuda" and spec.scenario is None:
            log.print("switching a GEMM on and off for about a minute, beside it reading power ...")
        answer = worker.identify()
    except WorkerDied as death:
        raise WorkerError(f"the sensor was not identified, the measuring process ended: {death}") from None
    except BaseException:
        worker.kill()
        raise
    worker.close()
    if isinstance(answer, Broken):
        raise WorkerError(f"the sensor was not identified: {answer.message}: see `flopwatt doctor`")
    return _report(worker.hello, answer)


def _report(hello: Hello, answer: Identified) -> SensorReport:
    return SensorReport(
        origin=hello.origin,
        gpu=hello.environment.gpu,
        board_id=hello.board_id,
        driver=hello.environment.driver,
        sensor=answer.identity,
        idle_w=hello.idle_w,
        idle_context_w=hello.idle_context_w,
        elapsed_s=answer.elapsed_s,
        not_stored=answer.not_stored,
    )


def view(report: SensorReport) -> Group:
    """The report for a person: what the sensor is, then what that means."""
    words = [report.gpu, f"board {report.board_id}" if report.board_id else "", f"driver {report.driver or 'unknown'}"]
    title = f"Power sensor ({report.sensor.source}) of {', '.join(filter(None, words))}"
    if report.sensor.method == UNIDENTIFIED:
        return Group(Text(printable(title)), Text(printable(report.sensor.reason or UNIDENTIFIED)))
    table = Table(title=printable(title), title_justify="left", box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(overflow="fold", style="dim")
    for name, value, remark in _rows(report):
        table.add_row(name, Text(value, style="yellow" if value == UNIDENTIFIED else ""), printable(remark))
    meaning = [Text(printable(f"• {sentence}")) for sentence in meanings(report.sensor)]
    return Group(table, Text(), *meaning, Text(), *(Text(printable(line)) for line in _footnotes(report)))


def _rows(report: SensorReport) -> Iterator[tuple[str, str, str]]:
    it, why = report.sensor, _reasons(report.sensor)
    yield "update period", _ms(it.update_period_s), why.get("update_period_s", "power changes this often")
    yield "averaging window", _ms(it.window_s), why.get("window_s") or _share_seen(it)
    if it.average_window_s is not None:
        yield "running average", _ms(it.average_window_s), "the driver's average power, which is the mean over this"
    if it.delay_s is not None:
        yield "reporting delay", _ms(it.delay_s), "from the end of a window to its showing"
    if it.rise_s is not None:
        yield "rise", _ms(it.rise_s), "from 10 to 90 % after a step of load, the window aside"
    yield "energy counter tick", _ms(it.counter_tick_s), why.get("counter_tick_s", "the counter changes this often")
    covers = {True: "yes", False: "no", None: UNIDENTIFIED}[it.counter_covers_all_time]
    beat = "beat test: load switched at 1.02 × the update period"
    yield "counter covers all time", covers, why.get("counter_covers_all_time", beat)
    latency = f"{it.call_latency_s * 1e6:.0f} µs" if it.call_latency_s is not None else UNIDENTIFIED
    yield "latency of a call", latency, "median of one reading"
    if it.sampling_effect is not None:
        between = ""
        if it.sampling_effect_low is not None and it.sampling_effect_high is not None:
            between = f", {it.sampling_effect_low:+.2%} to {it.sampling_effect_high:+.2%}"
        yield "effect of sampling", f"{it.sampling_effect:+.2%}", f"throughput, sampler on against off{between}"
    yield "idle", _watts(report.idle_w), "before a CUDA context"
    yield "idle with context", _watts(report.idle_context_w), "with a CUDA context, nothing running"
    gain = f"± {it.gain_uncertainty:.0%}" if it.gain_uncertainty is not None else "unknown"
    yield "gain", gain, "as quoted, not measured: that takes an external meter"


def meanings(it: SensorIdentity) -> Iterator[str]:
    """What a sensor's figures mean for the watts it gives, a sentence each."""
    seen = _seen(it)
    part = f"{seen:.0%} of the time" if seen is not None else "an unknown part of the time"
    window_s = it.window_s or it.average_window_s
    if it.counter_tick_s is None and (it.update_period_s is None or window_s is None):
        yield "No usable energy counter, and no power whose period and window are known: rows have no watts."
    elif it.counter_tick_s is None and it.window_s is None:
        yield f"No usable energy counter: watts are the running average over {window_s:g} s. Steady load only."
    elif it.counter_tick_s is None:
        yield f"No usable energy counter: watts are the mean of instant power, which sees {part}. Steady load only."
    elif it.counter_covers_all_time:
        yield "Joules from the energy counter include all of the time: short kernels and pauses are counted in full."
    elif it.counter_covers_all_time is False:
        yield (
            f"The energy counter adds up readings that see {part}: right for steady load, wrong for load that "
            f"repeats near the sensor's {_ms(it.update_period_s)}, such as a training step."
        )
    else:
        yield "Whether the energy counter sees all of the time is not told: trust it for steady load only."
    if it.update_period_s is not None and window_s is not None:
        shortest = window_s + (1 + SENSOR_PERIODS) * it.update_period_s
        yield f"A row has watts if its load was held for {shortest:.1f} s or more; shorter ones are refused."
    if it.average_window_s is not None and it.average_window_s > 2 * (it.update_period_s or 0.1):
        yield (
            f"Average power (nvidia-smi's power.draw on some drivers) lags by {it.average_window_s:.1f} s: "
            "under a shorter load it reads far too low."
        )
    ends = (it.sampling_effect_low, it.sampling_effect_high)
    if ends[0] is not None and ends[1] is not None:
        worst = max(abs(ends[0]), abs(ends[1]))
        verdict = (
            "which is not seen in any figure" if worst < TARGET else "more than a sampler should: say so beside figures"
        )
        yield f"Reading the sensor changes throughput by {worst:.2%} at most, {verdict}."
    if it.gain_uncertainty is not None:
        yield (
            f"All watts share this board's unknown gain, about ± {it.gain_uncertainty:.0%}: it cancels between kernels "
            "on this board, not between two boards."
        )


def _footnotes(report: SensorReport) -> Iterator[str]:
    if report.not_stored is None:
        yield f"Stored for this board and driver: later runs use it. It took {report.elapsed_s:.0f} s."
    else:
        yield f"Not stored: {report.not_stored}."
    if report.origin == "simulated":
        yield "Simulated: this is no GPU's sensor but its scenario's."


def _reasons(it: SensorIdentity) -> dict[str, str]:
    """Field → why it is None."""
    parts = (part.partition(f" {UNIDENTIFIED}: ") for part in (it.reason or "").split("; "))
    return {name: why for name, _, why in parts if why}


def _seen(it: SensorIdentity) -> float | None:
    if it.window_s is None or it.update_period_s is None:
        return None
    return min(1.0, it.window_s / it.update_period_s)


def _share_seen(it: SensorIdentity) -> str:
    seen = _seen(it)
    return "a reading is the mean over this" + (f": {seen:.0%} of the time is seen" if seen is not None else "")


def _ms(value_s: float | None) -> str:
    if value_s is None:
        return UNIDENTIFIED
    return f"{value_s * 1e3:.1f} ms" if value_s < 0.2 else f"{value_s * 1e3:.0f} ms"


def _watts(value_w: float | None) -> str:
    return "not readable" if value_w is None else f"{value_w:.1f} W"
