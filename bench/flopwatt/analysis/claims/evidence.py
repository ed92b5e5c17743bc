"""What the files at hand say of GPUs: measured ratios between two of them, and the shares of a training step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from flopwatt.analysis.calibrate.predictor import Calibration
from flopwatt.analysis.claims.working import Published
from flopwatt.analysis.comparing.comparison import Comparison, Options, compare
from flopwatt.analysis.comparing.matching import Backends
from flopwatt.analysis.comparing.sides import part_of
from flopwatt.errors import InputError
from flopwatt.runs import gpus
from flopwatt.runs.records import Origin, Record
from flopwatt.runs.store import RunFile
from flopwatt.runs.tidy import Row, run_rows

Measure = Literal["tflops-per-w", "power"]

SHAPE: Final = (8192, 8192, 8192)
"""M, N, K of the GEMM that calibrations are asked for: large enough that no chip is held up by its memory."""

PHASES: Final = frozenset({"forward", "input_grad", "weight_grad"})


@dataclass(frozen=True, slots=True)
class Evidence:
    """Run files and calibrations that claims are held against; none at all is fine."""

    runs: Sequence[RunFile] = ()
    calibrations: Sequence[Calibration] = ()

    def of_origin(self, origin: Origin) -> list[RunFile]:
        """The runs of one origin."""
        return [run for run in self.runs if run.header.origin == origin]

    def calibrations_of(self, family: str, dtype: str) -> Iterator[Calibration]:
        """The calibrations of GPUs whose entry's name begins like this that predict a format."""
        for calibration in self.calibrations:
            if of_family(calibration.file.gpu, family) and dtype in calibration.dtypes:
                yield calibration


@dataclass(frozen=True, slots=True)
class Gain:
    """One chip against another in one kind of work, as found.

    base, new: in the metric's unit. low, high: of new ÷ base.
    """

    what: str
    origin: Origin
    base: float
    new: float
    low: float
    high: float


def gains(
    evidence: Evidence, families: tuple[str, str], dtypes: tuple[str, str], measure: Measure = "tflops-per-w"
) -> Iterator[Gain]:
    """The second family's figure over the first's, measured and simulated ones apart, each side's best backend.

    families: beginnings of names in gpus.toml. dtypes: of the first and of the second. Totals of suites where both
    sides hold any, else single GEMMs; nothing where they share none with energy.
    """
    alike = dtypes[0] == dtypes[1]
    mixed = () if alike else ("dtype", "scaling", "accumulation")
    options = Options(measure, backends=Backends(best=True), mixed=mixed)
    origins: tuple[Origin, ...] = ("measured", "simulated")
    for origin in origins:
        runs = evidence.of_origin(origin)
        base, new = ([part for run in runs if (part := _part(run, *one))] for one in zip(families, dtypes, strict=True))
        if not base or not new:
            continue
        try:
            found = compare(base, new, options)
        except InputError:  # they share no case
            continue
        totals = [(f"{one.key.suite}, {one.key.inputs} operands", found.judged(one)) for one in found.suites]
        singles = [(one.base.identity.label, found.judged(one)) for one in found.cases]
        yield from list(_told(totals, origin)) or _told(singles, origin)


def unmeasured(evidence: Evidence, families: tuple[str, str]) -> str | None:
    """Why the files hold no measured ratio of two families of GPUs in bf16; None where they hold one."""
    held = [one.environment.gpu for run in evidence.of_origin("measured") for one in run.segments]
    for family in families:
        if not any(of_family(gpu, family) for gpu in held):
            others = f", only {', '.join(dict.fromkeys(held))}" if held else ""
            return f"not measurable here: no measured run file of {family} was given{others}"
    if any(gain.origin == "measured" for gain in gains(evidence, families, ("bf16", "bf16"))):
        return None
    return f"not measurable here: the run files of {' and '.join(families)} share no bf16 GEMM with watts"


def _told(found: Iterable[tuple[str, Comparison | None]], origin: Origin) -> Iterator[Gain]:
    for what, one in found:
        if one is None:
            continue
        low, high = one.total.low, one.total.high
        if low is None or high is None:
            unsure = f"{what}, no interval as a sensor's gain is unknown"
            yield Gain(unsure, origin, one.base, one.new, one.ratio, one.ratio)
        else:
            yield Gain(what, origin, one.base, one.new, low, high)


def _part(run: RunFile, family: str, dtype: str) -> RunFile | None:
    """What a run holds of sustained work on normal operands in one format on one family of GPUs; None for nothing."""
    return part_of(run, lambda segment: of_family(segment.environment.gpu, family), lambda one: _counts(one, dtype))


def of_family(gpu: str, family: str) -> bool:
    """Whether a GPU, by its driver's name, is one whose entry's name begins like this."""
    spec = gpus.named(gpu)
    return spec is not None and spec.name.startswith(family)


def _counts(record: Record, dtype: str) -> bool:
    case = record.case
    alike = (case.regime, case.inputs) == ("sustained", "normal")  # zeros draw less and run faster
    return alike and case.problem is not None and case.problem.dtype == dtype


def published(calibration: Calibration) -> Published:
    """A calibration as the source of what it predicts: one from a spec sheet alone is nothing that was checked."""
    if calibration.file.origin == "simulated":
        return Published("a calibration of a simulated GPU", "unverified")
    if calibration.file.unvalidated:
        return Published("a calibration from the GPU's spec sheet alone, not validated", "unverified")
    return Published("a calibration given, validated on shapes held out", "checked")


@dataclass(frozen=True, slots=True)
class Predicted:
    """TFLOPS/W that a calibration predicts for the GEMM of `SHAPE`, and its 95 % interval.

    counts: whether a verdict may rest on it; not where the watts follow from a law, or a simulated GPU gave them.
    """

    gpu: str
    value: float
    low: float
    high: float
    source: Published
    simulated: bool
    counts: bool


def predicted(evidence: Evidence, family: str, dtype: str) -> Predicted | None:
    """What the best calibration with watts of a GPU of this family predicts; None where there is none.

    Measured watts go before those of a law, and those before simulated ones.
    """
    m, n, k = SHAPE
    tflop = 2e-12 * m * n * k
    for calibration in sorted(evidence.calibrations_of(family, dtype), key=lambda one: _doubts(one, dtype)):
        found = calibration.predict(*SHAPE, dtype=dtype)
        if found.energy_j is None or found.energy_j_low is None or found.energy_j_high is None:
            continue
        simulated, lawful = _doubts(calibration, dtype)
        source = published(calibration)
        if lawful and not calibration.file.unvalidated:
            source = Published(
                "a calibration given, whose watts follow from the board's limit, unmeasured", "unverified"
            )
        ends = (tflop / float(found.energy_j_high[0]), tflop / float(found.energy_j_low[0]))
        value = tflop / float(found.energy_j[0])
        return Predicted(calibration.file.gpu, value, *ends, source, simulated, not (simulated or lawful))
    return None


def _doubts(calibration: Calibration, dtype: str) -> tuple[bool, bool]:
    """Whether a calibration is of a simulated GPU, and whether its watts follow from a law alone."""
    return calibration.file.origin == "simulated", not calibration.fitted(dtype).power_points


@dataclass(frozen=True, slots=True)
class ForwardShare:
    """The forward GEMMs' share of a training step's, in `by`: joules where all have any, else seconds."""

    what: str
    forward: float
    total: float
    by: Literal["J", "s"]


def forward_shares(evidence: Evidence) -> Iterator[ForwardShare]:
    """Of every training step of which flopwatt measured all three phases, under sustained load."""
    for run in evidence.of_origin("measured"):
        steps: dict[tuple[str, ...], list[Row]] = defaultdict(list)
        for row in run_rows(run):
            if row["headline"] and row["suite"] and row["regime"] == "sustained" and row["time_s"] is not None:
                key = tuple(str(row[name]) for name in ("suite", "suite_dtype", "backend", "inputs", "gpu"))
                steps[key].append(row)
        for (suite, _, backend, inputs, gpu), rows in steps.items():
            by: Literal["J", "s"] = "s" if any(row["energy_j"] is None for row in rows) else "J"
            phases: dict[str, float] = defaultdict(float)
            for row in rows:
                phases[row["phase"]] += row["energy_j" if by == "J" else "time_s"] * row["count"]
            if phases.keys() >= PHASES:
                what = f"{suite} on {gpu}, {backend}, {inputs} operands"
                yield ForwardShare(what, phases["forward"], sum(phases.values()), by)
