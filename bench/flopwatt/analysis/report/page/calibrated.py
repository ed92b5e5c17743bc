"""The section on calibrations: held-out errors and coverage as tables, residuals as figures, where it is all from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from flopwatt.analysis.calibrate.records import CalibrationFile, Errors, Site, Spread
from flopwatt.analysis.report.calibration_words import doubts, held_out, left_out, name_of
from flopwatt.analysis.report.page.content import clean
from flopwatt.analysis.report.page.figure import Figure
from flopwatt.analysis.report.page.markup import Tag, tag
from flopwatt.analysis.report.page.residuals import figures, size_name
from flopwatt.analysis.report.page.sections import Section, plot, section
from flopwatt.analysis.report.quantities import DASH, significant

SITES_MOST: Final = 40
"""Sites in the table, the worst first; the figure has all."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibration file and its figures."""

    file: CalibrationFile
    figures: tuple[Figure, ...]


def calibrated(calibrations: Sequence[CalibrationFile]) -> list[Calibrated]:
    """Each calibration with its figures drawn."""
    return [Calibrated(file, tuple(figures(file, number))) for number, file in enumerate(calibrations, start=1)]


def calibration_section(found: Sequence[Calibrated]) -> Section | None:
    """The section; None where the page has no calibration."""
    if not found:
        return None
    children = [child for one in found for child in _one(one)]
    return section("predictions", "Predictions, held against shapes they had not seen", *children)


def _one(one: Calibrated) -> Iterator[Tag]:
    file = one.file
    yield tag("h3", clean(name_of(file)))
    for words in doubts(file):
        yield tag("p", clean(words), class_="unmeasured")
    if any(fitted.errors_time is not None for fitted in file.fitted):
        yield _overall(file)
        yield from (plot(figure) for figure in one.figures)
        yield _by_size(file)
        yield _by_site(file)
    lost = [clean(words) for words in left_out(file)]
    if lost:
        yield tag("details", tag("summary", "Rows left out"), tag("ul", *(tag("li", words) for words in lost)))
    yield _facts(file)


def _overall(file: CalibrationFile) -> Tag:
    rows = [
        (one.dtype, what, f"{errors.count:,}", *_shares(errors))
        for one in file.fitted
        for what, errors in held_out(one)
    ]
    head = ("dtype", "of", "shapes", "MAPE", "p90", "≥ 16 GFLOP", "a roofline's MAPE", "in the 95 % interval")
    return _table(
        "Errors on (N, K) sites that were held out of the fit; the share inside intervals that were fitted to other "
        "sites.",
        head,
        rows,
    )


def _shares(errors: Errors) -> tuple[str, ...]:
    off = (errors.mape, errors.p90, errors.mape_large, errors.roofline_mape)
    return *map(_percent, off), _percent(errors.coverage * 100)


def _by_size(file: CalibrationFile) -> Tag:
    rows = [
        (one.dtype, what, size_name(site.size_gflop or 0.0), *_site(site))
        for one in file.fitted
        for what, errors in held_out(one)
        for site in errors.by_size
    ]
    head = ("dtype", "of", "GFLOP", "shapes", "MAPE", "p90", "in the 95 % interval")
    return tag("details", tag("summary", "Errors by size"), _table("", head, rows))


def _by_site(file: CalibrationFile) -> Tag:
    sites = [
        (one.dtype, site) for one in file.fitted if one.errors_time is not None for site in one.errors_time.by_site
    ]
    sites.sort(key=lambda pair: -pair[1].mape)
    rows = [(dtype, f"{site.n}", f"{site.k}", *_site(site)) for dtype, site in sites[:SITES_MOST]]
    head = ("dtype", "N", "K", "shapes", "MAPE of time", "p90", "in the 95 % interval")
    some = f"the worst {SITES_MOST} of {len(sites):,}" if len(sites) > SITES_MOST else f"all {len(sites):,}"
    return tag("details", tag("summary", f"Errors by (N, K) site: {some}"), _table("", head, rows))


def _site(site: Site) -> tuple[str, ...]:
    return f"{site.count:,}", _percent(site.mape), _percent(site.p90), _percent(site.coverage * 100)


def _percent(value: float | None) -> str:
    return DASH if value is None else f"{value:.1f} %"


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Tag:
    body = tag("tbody", *(tag("tr", *(tag("td", cell) for cell in row)) for row in rows))
    header = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head)))
    return tag("div", tag("table", tag("caption", caption) if caption else None, header, body), class_="scroll")


def _facts(file: CalibrationFile) -> Tag:
    """Board, state and provenance, as far as they are known."""
    identity, state = file.identity, file.state
    commit = f", commit {file.commit}" if file.commit else ""
    facts = {
        "kind": file.kind,
        "form factor": identity.form_factor or "",
        "board": ", ".join(identity.boards),
        "VBIOS": ", ".join(identity.vbios),
        "driver": ", ".join(identity.driver),
        "CUDA": ", ".join(identity.cuda),
        "software": ", ".join(f"{name} {'/'.join(versions)}" for name, versions in identity.frameworks.items()),
        "kernels": ", ".join(identity.kernels),
        "regime": state.regime or "",
        "operands": state.inputs or "",
        "cache": state.cache or "",
        "power limit": _spread(state.power_limit_w, "W"),
        "SM clock": _spread(state.clock_hz, "MHz", 1e-6),
        "temperature": _spread(state.temp_c, "°C"),
        "power cap": _spread(state.throttle_power, "% of the time", 100),
        "thermal": _spread(state.throttle_thermal, "% of the time", 100),
        "peaks": "; ".join(dict.fromkeys(one.chip_source for one in file.fitted)),
        "made": f"{file.created} by flopwatt {file.flopwatt}{commit}",
        "from": "; ".join(_source(file)),
    }
    rows = [tag("div", tag("dt", name), tag("dd", clean(value))) for name, value in facts.items() if value]
    return tag("details", tag("summary", "Board, state and sources"), tag("dl", *rows, class_="facts"), class_="card")


def _source(file: CalibrationFile) -> Iterator[str]:
    for one in file.sources:
        prior = "as a prior: " if one.prior else ""
        origin = f", {one.source}" if one.source else ""
        licence = f", licence {one.licence}" if one.licence else ""
        yield f"{prior}{one.file} ({one.origin}, run {one.run_id[:8]}, SHA-256 {one.sha256[:12]}{origin}{licence})"


def _spread(spread: Spread | None, unit: str, scale: float = 1.0) -> str:
    if spread is None:
        return ""
    low, median, high = (significant(value * scale) for value in (spread.low, spread.median, spread.high))
    ends = "" if low == high else f" ({low} to {high})"
    return f"{median}{ends} {unit}"
