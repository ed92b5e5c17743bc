"""Fits of the made-up GPU that several modules of tests look at: each takes seconds."""

from __future__ import annotations

import msgspec
import pytest
from made_up_gpu import CHIP, IDLE_W, points, wrapped

from flopwatt.analysis.calibrate import calibrating, fitting


@pytest.fixture(scope="session")
def fitted():
    return fitting.fit(points(500), CHIP, "bf16", chip_source="made up", idle_w=IDLE_W, limit_w=500.0, cold=True)


@pytest.fixture(scope="session")
def calibration(fitted):
    return wrapped(fitted)


@pytest.fixture(scope="session")
def unseen():
    return points(2000, seed=7)


@pytest.fixture
def unfitted(monkeypatch):
    """Rows are chosen and counted as ever, but nothing is fitted to them: a fit takes seconds."""

    def fit(points, chip, dtype, *, chip_source, limit_w, **_):
        nothing = fitting.unmeasured(chip, dtype, chip_source, limit_w)
        return msgspec.structs.replace(nothing, points=len(points), left_out=points.left_out)

    monkeypatch.setattr(calibrating, "fit", fit)
