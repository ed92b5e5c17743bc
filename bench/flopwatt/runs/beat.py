"""The beat test: whether an energy counter covers all time, or adds up what the power sensor saw. Pure arithmetic.

Load switched at 1.02 × the sensor's period slides along its updates, so readings that see a part of the time swing
slowly, at the beat of the two. A counter that sums them swings with them; one that integrates all time does not.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from flopwatt.runs.rhythm import CHANGES_LEAST, Changes, Unidentified
from flopwatt.runs.sensor_response import FloatArray, Response

BEATS: Final = 3
SETTLE_BEAT_S: Final = 0.5
"""What the beat test needs: beats that it spans, once lags and delays have settled."""

SIDE_FREQUENCIES: Final = (1.7, 2.35)
"""Multiples of the beat frequency at which nothing should be found: what is found there is noise. Between harmonics."""

IRREGULAR: Final = 0.05
"""Pulses may begin this share of a period off their rhythm: a tenth of a pulse, which leaves the beat its height."""

OVER_NOISE: Final = 5.0
SEEN_LEAST: Final = 0.01
"""The beat must show in the readings this far above noise, and by this share of the load's swing, to judge by it."""

COVERS_BELOW: Final = 0.25
PART_ABOVE: Final = 0.60
"""Modulation of the counter relative to that of the readings. A counter that sums the readings shows theirs (1); one
that integrates all time shows 0.02 beside a short window, at most 0.25 beside any that is judged. Between: not told."""

FILLED: Final = 0.97
"""A window of this share of the period leaves nothing for a part-time counter to miss."""

OVER_LEAK: Final = 4.0
"""At 1.02 periods a counter of all time swings a little too: the readings must swing so much more to tell by."""

QUARTER: Final = 0.25
"""Share of the time that a part-time counter is assumed to see where the readings cannot show it (as A100 and H100)."""


def covers_all_time(
    edges: Changes,
    starts: FloatArray,
    period_s: float,
    instant: Changes | None,
    window: Response | None,
    average: Response | None,
) -> bool:
    """Whether joules per tick of the counter stay level under the square wave. Raises Unidentified.

    edges: of the counter, millijoules. starts: of the wave's pulses, s. period_s: of the sensor. instant: its readings,
    milliwatts. window, average: its fitted answers to a load, of instant and of average power.
    """
    number = np.rint((starts - starts[0]) / float(np.median(np.diff(starts))))
    load_period, begin = np.polyfit(number, starts, 1).tolist()
    if float(np.std(starts - begin - number * load_period)) > IRREGULAR * load_period:
        raise Unidentified("the load could not be switched regularly")
    beat_hz = abs(1 / period_s - 1 / load_period)
    span = (starts[0] + SETTLE_BEAT_S, starts[-1] + load_period)
    if (span[1] - span[0]) * beat_hz < BEATS:
        raise Unidentified(f"the load held {(span[1] - span[0]) * beat_hz:.1f} beats, {BEATS} are needed")
    gaps = np.diff(edges.t_s)
    counted = _Beat(edges.t_s[:-1] + gaps / 2, np.diff(edges.value) * 1e-3 / gaps, span, beat_hz)
    readings = _Beat(instant.t_s, instant.value * 1e-3, span, beat_hz) if instant is not None else None
    reference = _reference(period_s, load_period, readings, window, average)
    if counted.noise > COVERS_BELOW * reference:
        raise Unidentified("the counter is too noisy for the beat test")
    ratio = counted.amplitude / reference
    if COVERS_BELOW < ratio < PART_ABOVE:
        raise Unidentified(f"joules per tick swing by {ratio:.0%} of what a part-time counter's would")
    return ratio <= COVERS_BELOW


def _reference(
    period_s: float,
    load_period_s: float,
    readings: _Beat | None,
    window: Response | None,
    average: Response | None,
) -> float:
    """Watts by which a part-time counter would swing: as the readings do, or as the fitted lags let it."""
    told = window or average
    if told is None:
        raise Unidentified("the beat test needs the sensor's answer to the load")
    fundamental = told.swing_w * 2 / np.pi * told.passes(1 / load_period_s)  # of the square wave behind the lags
    if readings is None or (window is not None and window.window_s >= FILLED * period_s):
        return float(fundamental * np.sinc(QUARTER * period_s / load_period_s))
    leak = fundamental * float(np.sinc(period_s / load_period_s))
    if readings.amplitude < max(OVER_NOISE * readings.noise, SEEN_LEAST * told.swing_w, OVER_LEAK * leak):
        raise Unidentified("the readings themselves show no beat to judge by")
    return readings.amplitude


class _Beat:
    """How much a series swings at the beat frequency, and how much beside it, where only noise is."""

    def __init__(self, t_s: FloatArray, watts: FloatArray, span: tuple[float, float], beat_hz: float) -> None:
        inside = (t_s >= span[0]) & (t_s <= span[1])
        if int(inside.sum()) < CHANGES_LEAST:
            raise Unidentified("too few ticks during the beat test")
        self._t, self._watts = t_s[inside], watts[inside]
        self._share = (self._t - span[0]) / (span[1] - span[0])
        self.amplitude = self._at(beat_hz)
        self.noise = max(self._at(factor * beat_hz) for factor in SIDE_FREQUENCIES)

    def _at(self, frequency_hz: float) -> float:
        """Amplitude of the sine that fits best under a Hann window, which keeps other frequencies out."""
        weight = np.sin(np.pi * self._share)  # squared by the fit
        angle = 2 * np.pi * frequency_hz * self._t
        basis = np.stack([np.ones_like(angle), self._share, np.cos(angle), np.sin(angle)], axis=1)
        parts = np.linalg.lstsq(basis * weight[:, None], self._watts * weight, rcond=None)[0]
        return float(np.hypot(parts[2], parts[3]))
