"""Predictions against published steps, on the GEMM tables of this repository: the lines that the model has to hold."""

import sys
from pathlib import Path

import numpy as np
import pytest

from flopwatt.analysis.cost import price, validation
from flopwatt.analysis.cost.machine import Machine

BENCHMARKS = Path(__file__).resolve().parents[2] / "bench/benchmarks"
VTRAIN = Path(__file__).resolve().parents[3] / "shared/data/vtrain_single_node.csv"
PAGE = Path(__file__).resolve().parents[2] / "docs/cost.md"


@pytest.fixture(scope="module", autouse=True)
def benchmarks() -> None:
    sys.path.insert(0, str(BENCHMARKS))


@pytest.fixture(scope="module")
def machines(benchmarks: None) -> dict[str, Machine]:
    from published.machines import calibrated

    return calibrated()


def error(ratios: np.ndarray) -> float:
    return float(np.abs(ratios - 1).mean()) * 100


def test_the_page_tells_what_the_program_tells() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for result in validation.results()[:5]:
        assert f"| {result.rows} | {result.mape:.1f} % |" in page, result.what


@pytest.mark.slow
def test_fsdp_runs_of_models_not_fitted(machines: dict[str, Machine]) -> None:
    from published import fitting, rows

    import cost

    unseen = [row for row in rows.llm_foundry(machines) if row.model not in cost.FITTED_MODELS]
    ratios = fitting.ratios(unseen, {})
    assert error(ratios) == pytest.approx(validation.results()[0].mape, abs=0.5)
    assert len(unseen) == validation.results()[0].rows
    assert np.abs(ratios - 1).max() < 0.15


@pytest.mark.slow
def test_several_servers_nothing_fitted(machines: dict[str, Machine]) -> None:
    from published import fitting, rows

    import cost

    table = rows.vtrain_multi(machines["A100"])
    ratios = fitting.ratios(table, cost.VTRAIN_STACK)
    large = np.array([row.model == "gpt-12288x96" for row in table])
    for picked, result in ((large, validation.results()[1]), (~large, validation.results()[2])):
        assert error(ratios[picked]) == pytest.approx(result.mape, abs=0.5)
        assert picked.sum() == result.rows


@pytest.mark.slow
def test_one_server_of_models_not_fitted(machines: dict[str, Machine]) -> None:
    from published import fitting, rows

    import cost

    if not VTRAIN.exists():
        pytest.skip("needs vTrain's ground_truth_single.csv, which is not part of this repository")
    seen, unseen = cost.vtrain_split(rows.vtrain_single(machines["A100"], VTRAIN))
    assert not {row.model for row in seen} & {row.model for row in unseen}
    best = fitting.fit(seen[::4], cost.VTRAIN_START, cost.VTRAIN_STACK)
    ratios = fitting.ratios(unseen, {**cost.VTRAIN_STACK, **best})
    assert error(ratios) <= 8
    assert error(ratios) == pytest.approx(validation.results()[3].mape, abs=0.5)
    assert error(cost.constant_mfu(seen, unseen)) > 50


@pytest.mark.slow
def test_published_throughput_within_ten_percent(machines: dict[str, Machine]) -> None:
    from published import rows

    known = [entry for entry in rows.published() if "layout" in entry]
    megatron: list[float] = []
    for entry in known:
        request = rows.request_of(entry, machines[entry["gpu"]])
        ratio = rows.tflops(entry, request, price(request)) / entry["tflops"]
        # Discussed in docs/cost.md: predicted too fast by a third and by a seventh.
        if entry["model"] in ("mt-nlg-530b", "bloom-176b"):
            assert 1.1 < ratio < 1.4
            continue
        assert ratio == pytest.approx(1, abs=0.1), entry["model"]
        if "gpt" in entry:
            megatron.append(ratio)
    assert error(np.array(megatron)) == pytest.approx(validation.results()[4].mape, abs=0.5)
    assert len(megatron) == validation.results()[4].rows


@pytest.mark.slow
def test_implied_goodput_of_every_published_run(machines: dict[str, Machine]) -> None:
    from published import runs

    found = {one.model: one.goodput for one in runs.implied(machines)}
    assert len(found) == 12
    assert all(0.3 <= goodput <= 1 for goodput in found.values()), found
