"""`flopwatt export`: a calibration in a consumer's own file format, with the conditions that its numbers hold for."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from rich.console import Console

from flopwatt import __version__
from flopwatt.analysis.calibrate.core import Shapes
from flopwatt.analysis.calibrate.files import load_calibration
from flopwatt.analysis.calibrate.predictor import Calibration
from flopwatt.analysis.cost.choosing import Wanted
from flopwatt.analysis.cost.layout import parse_degrees
from flopwatt.analysis.formats import calculon, genz, llm_analysis
from flopwatt.analysis.formats.aiconfigurator import systems
from flopwatt.analysis.formats.exporting import files, gemms
from flopwatt.analysis.formats.exporting.export import Consumer, Export, describe
from flopwatt.commands import predict
from flopwatt.errors import InputError
from flopwatt.runs.suites import list_models, training_gemms
from flopwatt.text import printable

FORMATS: Final = ("aiconfigurator", "calculon", "llm-analysis", "genz", "csv", "json")
TOKENS: Final = 1e12
"""Of the run that llm-analysis is given where none are named: they change its total, not its rate."""


@dataclass(frozen=True, slots=True)
class Request:
    """The words of the command line; None or empty where they were not said."""

    calibration: Path
    to: str
    output: Path
    models: Sequence[str] = ()
    shape: Sequence[str] = ()
    shapes: Path | None = None
    dtype: str | None = None
    base: str | None = None
    mode: str | None = None
    gpus: int | None = None
    parallel: str | None = None
    tokens: float | None = None
    seq: int | None = None
    micro_batch: int | None = None


def export(request: Request, console: Console) -> int:
    """Writes the export and its sidecar, and says what they hold. Raises InputError, SuiteError, CalibrationError."""
    if request.to not in FORMATS:
        raise InputError(f"unknown format {request.to!r}: choose one of {', '.join(FORMATS)} with --to")
    _check_words(request)
    files.check_free(request.output)
    calibration = load_calibration(request.calibration)
    made = _made(calibration, request)
    digest = hashlib.sha256(request.calibration.read_bytes()).hexdigest()
    conditions = describe(made, request.to, calibration, digest, __version__)
    files.write(request.output, made.files, conditions.to_json())
    file = calibration.file
    doubts = {"simulated": file.origin == "simulated", "unvalidated": file.unvalidated}
    doubt = "".join(f", {word}" for word, holds in doubts.items() if holds)
    lines = [
        f"{request.output}: {made.kind} figures of {file.gpu}{doubt}, for {made.consumer.name}",
        f"  conditions: {files.sidecar_of(request.output, made.files)}",
        *(f"  {note}" for note in made.notes),
        f"  use: {made.usage}",
    ]
    for line in lines:
        console.print(printable(line), soft_wrap=True, markup=False, highlight=False)
    return 0


_TAKEN: Final = {
    "models": ("aiconfigurator", "calculon", "llm-analysis", "genz", "csv", "json"),
    "shape": ("calculon", "csv", "json"),
    "shapes": ("calculon", "csv", "json"),
    "dtype": ("calculon", "genz", "csv", "json"),
    "base": ("aiconfigurator",),
    "mode": ("calculon",),
    "gpus": ("llm-analysis",),
    "parallel": ("calculon", "llm-analysis", "csv", "json"),
    "tokens": ("llm-analysis",),
    "seq": ("calculon", "llm-analysis", "csv", "json"),
    "micro_batch": ("calculon", "llm-analysis", "csv", "json"),
}
"""Which formats each word means something to."""


def _check_words(request: Request) -> None:
    """Raises InputError for a word that the format would pass over in silence, and for a number that is none."""
    for name, taken in _TAKEN.items():
        if getattr(request, name) not in (None, ()) and request.to not in taken:
            word = {"models": "model", "mode": "processing-mode"}.get(name, name.replace("_", "-"))
            raise InputError(f"--{word} means nothing to --to {request.to}: it is for {', '.join(taken)}")
    for name, most in (("gpus", 10**7), ("seq", 2**24), ("micro_batch", 2**24), ("tokens", 1e18)):
        value = getattr(request, name)
        if value is not None and not 1 <= value <= most:
            raise InputError(f"--{name.replace('_', '-')} {value}: give a number from 1 to {most:,.0f}")


def _made(calibration: Calibration, request: Request) -> Export:
    match request.to:
        case "aiconfigurator":
            return systems.export(calibration, gemms.models((*list_models(), *request.models)), request.base)
        case "genz":
            return genz.export(calibration, gemms.models(request.models), request.dtype)
        case "llm-analysis":
            return llm_analysis.export(calibration, _training(request))
        case "calculon":
            return calculon.export(calibration, _of_calculon(calibration, request), calculon.mode(request.mode))
    return _predictions(calibration, request)


def _of_calculon(calibration: Calibration, request: Request) -> dict[str, Shapes]:
    """The GEMMs for it by format; empty where no word says which, for every format. Raises InputError."""
    asked = _asked(calibration, request)
    if any(one.layout for one in asked):
        raise InputError("--to calculon: it knows no layouts: leave that column out of --shapes")
    if not asked and request.dtype:
        return {request.dtype: gemms.squares(request.dtype)}
    return _by_format(asked)


def _asked(calibration: Calibration, request: Request) -> list[predict.Asked]:
    """The GEMMs of the models' training steps and those named; empty where no word names any."""
    dtype = request.dtype or predict.usual(calibration)
    degrees = _degrees(request)
    if degrees.keys() - {"tp"}:
        raise InputError(f"--parallel {request.parallel}: of one rank's GEMMs only tp changes anything: give tp alone")
    changes = {"seq": request.seq, "micro_batch": request.micro_batch, "tensor_parallel": degrees.get("tp")}
    if not request.models and any(changes.values()):
        raise InputError("--seq, --micro-batch and --parallel are of a model: give --model")
    named = [model.with_(**changes) for model in gemms.models(request.models)] if request.models else []
    problems = [item.problem for model in named for item in training_gemms(model, dtype=dtype, attention=False)]
    asked = [predict.Asked(one.m, one.n, one.k, one.batch, dtype, None) for one in problems]
    asked += predict.asked_for(request.shape, request.shapes, dtype)
    for one in {dtype, *(row.dtype for row in asked)}:
        calibration.fitted(one)  # refuses a format that there is not
    return list(dict.fromkeys(asked))


def _by_format(asked: Sequence[predict.Asked]) -> dict[str, Shapes]:
    """The GEMMs as arrays, by number format, in the layout that was measured."""
    dtypes = dict.fromkeys(one.dtype for one in asked)
    rows = {dtype: [(one.m, one.n, one.k, one.batch) for one in asked if one.dtype == dtype] for dtype in dtypes}
    return {dtype: gemms.from_rows(some, dtype) for dtype, some in rows.items()}


def _degrees(request: Request) -> dict[str, int]:
    return parse_degrees(request.parallel) if request.parallel else {}


def _training(request: Request) -> llm_analysis.Training | None:
    """The run that llm-analysis is given; None where none is named. Raises InputError."""
    if not request.models or request.gpus is None:
        return None
    if len(request.models) > 1:
        raise InputError("--to llm-analysis: its rate is one model's: give one --model")
    wanted = msgspec.structs.replace(
        Wanted(gpus=request.gpus, seq=request.seq, micro_batch=request.micro_batch), **_degrees(request)
    )
    return llm_analysis.Training(request.models[0], request.tokens or TOKENS, wanted)


_READER: Final = Consumer(
    name="any reader",
    source="the columns of flopwatt predict",
    formula="none: predictions as they are, SI units, with the ends of their 95 % intervals",
    takes=("kernel", "layer", "end_to_end"),
)


def _predictions(calibration: Calibration, request: Request) -> Export:
    """Predictions of the GEMMs asked for, or of a grid over what was measured, as CSV or JSON."""
    asked = _asked(calibration, request)
    if not asked:
        wanted = (request.dtype,) if request.dtype else calibration.dtypes
        asked = [one for dtype in wanted for one in _grid(calibration, dtype)]
    rows = predict.rows_of(calibration, asked)
    predicted = {dtype: gemms.predict(calibration, dtype, shapes) for dtype, shapes in _by_format(asked).items()}
    text = io.StringIO()
    predict.write_rows(text, rows, request.to)
    return Export(
        consumer=_READER,
        kind=calibration.file.kind,
        files={"": text.getvalue().encode()},
        predicted=tuple(predicted.values()),
        usage="predictions, not measurements: `flopwatt import` does not take them",
        notes=[
            f"{one.dtype}: watts and joules follow from a law: the calibration rests on no measured ones"
            for one in calibration.file.fitted
            if one.dtype in predicted and one.power is not None and not one.power_points
        ],
    )


def _grid(calibration: Calibration, dtype: str) -> list[predict.Asked]:
    shapes = gemms.inside(calibration, dtype)
    sizes = np.array([shapes.m, shapes.n, shapes.k]).T.astype(int).tolist()
    return [predict.Asked(m, n, k, 1, dtype, None) for m, n, k in sizes]
