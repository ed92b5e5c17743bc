"""Watts of a made-up GPU: a law with steps is left to the trees, a smooth one to the process."""

import numpy as np
import pytest
from made_up_gpu import CHIP, IDLE_W, points, true_power, true_time

from flopwatt.analysis.calibrate import power, residual
from flopwatt.analysis.calibrate.core import START
from flopwatt.analysis.calibrate.fitting import TimeModel
from flopwatt.analysis.calibrate.records import Residual


def seen(shapes):
    return TimeModel(START, Residual()).seconds(shapes, np.zeros(len(shapes)), CHIP)[1]


def fit(made, watts):
    measured = type(made)(made.shapes, made.layout, made.time_s, watts)
    return power.fit_power(
        measured, CHIP, true_time(made.shapes), seen(made.shapes), np.zeros(len(made)), IDLE_W, CHIP.limit_w
    )


def stepped(shapes):
    """Odd M at half the watts, which no smooth law of sizes says."""
    return true_power(shapes) * np.where(shapes.m % 2 == 1, 0.5, 1.0)


@pytest.mark.parametrize(
    ("law", "least", "most", "error"),
    [(true_power, 0.75, 1.0, 1.0), (stepped, 0.0, 0.25, 25.0)],
    ids=["smooth", "steps"],
)
def test_held_out_watts_choose_how_much_the_process_says(law, least, most, error, unseen):
    made = points(200)
    model = fit(made, law(made.shapes) * np.exp(np.random.default_rng(1).normal(0, 0.01, len(made))))
    learned = model.quantity.residual
    assert least <= learned.process_share <= most
    assert (learned.process is None) == (learned.process_share == 0)
    known, x = (
        power.see_power(seen(shapes), shapes, true_time(shapes), CHIP) for shapes in (made.shapes, unseen.shapes)
    )
    mixed = residual.fit(known, np.log(law(made.shapes) / model.high_w), noisy=True)
    assert mixed.process_share == 0.5
    logs = [residual.evaluate(learned, x), residual.evaluate(mixed, x)]
    chosen, half = (np.abs(model.high_w * np.exp(log) / law(unseen.shapes) - 1).mean() * 100 for log in logs)
    assert chosen < error
    assert chosen < 0.8 * half


def test_held_out_watts_are_of_fits_that_never_saw_the_site():
    made = points(100)
    alone = (made.shapes.n == made.shapes.n[0]) & (made.shapes.k == made.shapes.k[0])
    held = fit(made, np.where(alone, 450.0, 150.0)).held_out_w
    assert (held[alone] < 250).all()
    assert np.median(held[~alone]) == pytest.approx(150, rel=0.05)


def test_too_few_watts_are_no_fit():
    made = points(20)
    watts = np.full(len(made), np.nan)
    watts[: power.POINTS_LEAST - 1] = 200.0
    assert fit(made, watts) is None
    watts[: power.POINTS_LEAST] = 200.0
    model = fit(made, watts)
    assert model.count == power.POINTS_LEAST
    assert np.isfinite(model.held_out_w).sum() == power.POINTS_LEAST
