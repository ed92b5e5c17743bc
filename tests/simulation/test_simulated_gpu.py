from __future__ import annotations

import numpy as np
import pytest
from plain_scenario import IDLE_W, LOAD_W, plain, steady_kernel

from flopwatt.measurement.simulation.gpu import SimulatedGpu
from flopwatt.measurement.simulation.kernel import inputs_factor, kernel_for
from flopwatt.measurement.simulation.loading import load_scenario
from flopwatt.runs.records import Case, SequenceItem
from gemmkernels.problem import Problem


def torch_case(m=8192, n=8192, k=8192, **fields):
    problem = Problem(m, n, k, dtype=fields.pop("dtype", "bf16"), layout=fields.pop("layout", "nn"))
    return Case(problem=problem, backend=fields.pop("backend", "torch"), **fields)


def tflops(case, time_s):
    return case.flop / time_s / 1e12


@pytest.mark.parametrize(
    ("name", "inputs", "sustained_tflops", "power_w", "burst_tflops"),
    [
        ("h100", "normal", 717, 690, 820),
        ("h100", "zeros", 820, 527, 820),
        ("a100", "normal", 257, 394, 296),
        ("a100", "zeros", 296, 306, 296),
    ],
)
def test_shipped_scenarios_are_like_the_chips_they_are_named_after(
    name, inputs, sustained_tflops, power_w, burst_tflops
):
    # Normal inputs sit at the power limit (H100 about 730 TFLOPS, A100 257), zeros do not (A100 295): public figures.
    gpu, case = SimulatedGpu(load_scenario(name)), torch_case(inputs=inputs)
    settled = gpu.steady(case)
    assert tflops(case, settled.time_s) == pytest.approx(sustained_tflops, rel=0.01)
    assert settled.power_w == pytest.approx(power_w, rel=0.01)
    assert tflops(case, gpu.burst_time_s(case)) == pytest.approx(burst_tflops, rel=0.01)


@pytest.mark.parametrize("name", ["h100", "a100"])
@pytest.mark.parametrize("shape", [(8192, 8192, 8192), (1024, 1024, 1024), (64, 8192, 8192)])
def test_a_long_load_settles_where_the_truth_says(name, shape):
    scenario = load_scenario(name)
    gpu = SimulatedGpu(scenario, seed=5)
    case = torch_case(*shape)
    run = gpu.run_factors(case)
    gpu.begin(0.0, kernel_for(case, scenario), run)
    start, end = 60.0, 260.0
    power_w = float(gpu.true_energy_j(start, end)) / (end - start)
    launches = gpu.launches_since_begin(end) - gpu.launches_since_begin(start)
    truth = gpu.steady(case, this_run=True)
    # 200 s of drift with a correlation time of 4 s average to a fifth of its 0.2 %.
    assert power_w == pytest.approx(truth.power_w, rel=2e-3)
    assert (end - start) / launches == pytest.approx(truth.time_s, rel=2e-3)
    assert truth.energy_j == pytest.approx(truth.time_s * truth.power_w)


def test_a_burst_escapes_the_cap_and_a_sustained_load_does_not():
    scenario = load_scenario("h100")
    gpu = SimulatedGpu(scenario)
    gpu.begin(10.0, kernel_for(torch_case(), scenario))
    assert gpu.throttled_s(10.025)[0] == 0.0
    assert gpu.regulation(10.025).clock_fraction == 1.0
    assert gpu.true_power_w(10.02) > 800
    assert gpu.true_power_w(11.0) == pytest.approx(690, rel=0.02)
    assert gpu.regulation(11.0).clock_fraction == pytest.approx(0.88, abs=0.02)
    assert gpu.regulation(11.0).reasons == 4
    assert gpu.throttled_s(11.0)[0] == pytest.approx(0.96, abs=0.03)
    gpu.end(11.0)
    assert gpu.regulation(11.1).reasons == 1


def test_power_rises_first_order_and_energy_is_its_integral():
    gpu = SimulatedGpu(plain(power={"rise_s": 0.2}, noise={"drift_power": 0.03, "drift_correlation_s": 0.3}), seed=2)
    gpu.begin(1.0, steady_kernel())
    gpu.end(2.5)
    tau = 0.2 / np.log(9)
    shape = (gpu.true_power_w(1.0 + tau) - IDLE_W) / (LOAD_W - IDLE_W)
    assert shape == pytest.approx(1 - np.exp(-1), rel=0.05)
    t = np.linspace(0.0, 4.0, 400_001)
    midpoints_j = gpu.true_power_w((t[1:] + t[:-1]) / 2) * np.diff(t)
    for start, end in [(0.0, 4.0), (0.9, 1.05), (1.013, 2.77)]:
        inside = (t[:-1] >= start - 1e-9) & (t[1:] <= end + 1e-9)
        assert gpu.true_energy_j(start, end) == pytest.approx(midpoints_j[inside].sum(), rel=1e-6)
    assert gpu.true_energy_j(-5.0, -3.0) == pytest.approx(2 * IDLE_W)


def test_looking_changes_nothing():
    scenario = load_scenario("h100")
    often, seldom = SimulatedGpu(scenario, seed=9), SimulatedGpu(scenario, seed=9)
    kernel = kernel_for(torch_case(), scenario)
    for gpu in (often, seldom):
        for start in (1.0, 2.5, 3.003):
            if gpu is often:
                for t in np.arange(start - 1, start, 0.0037):
                    gpu.true_power_w(t)
            gpu.begin(start, kernel)
            gpu.end(start + 0.4007)
    t = np.linspace(0, 5, 501)
    assert (often.true_power_w(t) == seldom.true_power_w(t)).all()


def test_drift_has_the_spread_and_the_correlation_time_of_the_scenario():
    gpu = SimulatedGpu(plain(noise={"drift_power": 0.01, "drift_correlation_s": 2.0}), seed=1)
    gpu.begin(0.0, steady_kernel())
    watts = gpu.true_power_w(np.arange(5.0, 4005.0, 0.5)) / LOAD_W - 1
    assert watts.std() == pytest.approx(0.01, rel=0.1)
    lagged = np.corrcoef(watts[:-4], watts[4:])[0, 1]
    assert lagged == pytest.approx(np.exp(-1), abs=0.08)


def test_run_factors_spread_over_processes_and_are_fixed_within_one():
    scenario = load_scenario("h100")
    case = torch_case()
    factors = np.array([SimulatedGpu(scenario, process=p).run_factors(case) for p in range(400)])
    assert factors.std(axis=0) == pytest.approx([0.005, 0.005], rel=0.15)
    assert abs(np.corrcoef(factors.T)[0, 1]) < 0.15
    assert SimulatedGpu(scenario, process=3).run_factors(case) == tuple(factors[3])
    assert SimulatedGpu(scenario, process=3).run_factors(torch_case(4096)) != tuple(factors[3])


def test_temperature_and_power_drift_together():
    scenario = plain(thermal={"ambient_c": 30, "c_per_w": 0.1, "time_constant_s": 10, "power_per_c": 0.001})
    gpu = SimulatedGpu(scenario)
    gpu.begin(0.0, steady_kernel())
    cold, warm = gpu.regulation(0.1), gpu.regulation(100.0)
    assert cold.temp_c == pytest.approx(35.3, abs=0.1)
    assert warm.temp_c == pytest.approx(30 + 0.1 * warm.target_w, abs=0.1)
    assert warm.target_w / cold.target_w == pytest.approx(
        (1 + 0.001 * (warm.temp_c - 60)) / (1 + 0.001 * (cold.temp_c - 60)), rel=1e-3
    )


def test_throttle_windows_lower_the_clock_and_set_their_reason():
    throttle = [
        {"from_s": 2.0, "duration_s": 1.0, "clock_factor": 0.5, "cause": "hw_thermal"},
        {"from_s": 0.5, "duration_s": 0.2, "clock_factor": 0.8, "per_load": True},
    ]
    gpu = SimulatedGpu(plain(faults={"throttle": throttle}))
    gpu.begin(10.0, steady_kernel())
    assert (gpu.regulation(10.3).clock_fraction, gpu.regulation(10.3).reasons) == (1.0, 0)
    assert (gpu.regulation(10.6).clock_fraction, gpu.regulation(10.6).reasons) == (0.8, 0x20)
    gpu.end(11.0)
    gpu.begin(12.0, steady_kernel())
    assert gpu.regulation(12.6).clock_fraction == 0.8
    assert gpu.regulation(12.9).clock_fraction == 1.0
    assert (gpu.regulation(13.5).clock_fraction, gpu.regulation(13.5).reasons) == (0.5, 0x48)
    assert gpu.launches_since_begin(13.9) - gpu.launches_since_begin(13.4) == pytest.approx(250, rel=0.01)
    assert gpu.throttled_s(15.0)[1] == pytest.approx(1.4, abs=0.05)


def test_a_second_process_steals_time_and_adds_watts():
    other = {"share": 0.25, "extra_w": 40, "from_s": 5, "until_s": 10}
    gpu = SimulatedGpu(plain(faults={"second_process": other}))
    gpu.begin(2.0, steady_kernel())
    assert gpu.launches_since_begin(4.0) - gpu.launches_since_begin(3.0) == pytest.approx(1000)
    assert gpu.launches_since_begin(8.0) - gpu.launches_since_begin(7.0) == pytest.approx(750)
    assert gpu.true_power_w([4.0, 8.0, 12.0]) == pytest.approx([LOAD_W, LOAD_W + 40, LOAD_W])
    gpu.end(12.0)
    assert gpu.true_power_w(11.9) == pytest.approx(LOAD_W)


def test_a_context_and_sampling_have_their_price():
    gpu = SimulatedGpu(plain(power={"context_w": 80}, faults={"sampling_slowdown": 0.01}))
    gpu.open_context(1.0)
    assert gpu.true_power_w([0.9, 1.1]) == pytest.approx([IDLE_W, 80])
    gpu.begin(2.0, steady_kernel())
    gpu.set_sampled(3.0, True)
    gpu.set_sampled(4.0, False)
    rates = np.diff([gpu.launches_since_begin(t) for t in (2.0, 3.0, 4.0, 5.0)])
    assert rates == pytest.approx([1000, 1000 / 1.01, 1000])


def test_time_is_a_roofline_with_waves_of_tiles():
    scenario = plain(gpu={"launch_overhead_s": 3e-6, "tiles": [{"m": 128, "n": 128}], "memory_efficiency": 0.5})
    per_sm = 300e12 * 0.9 / 100
    tile_s = 2 * 128 * 128 * 4096 / per_sm
    one_wave = kernel_for(torch_case(1280, 1280, 4096), scenario)  # 100 tiles on 100 SMs
    assert one_wave.time_s(1.0) == pytest.approx(tile_s + 3e-6)
    assert one_wave.time_s(0.5) == pytest.approx(2 * tile_s + 3e-6)
    two_waves = kernel_for(torch_case(1280, 1281, 4096), scenario)
    assert two_waves.time_s(1.0) == pytest.approx(2 * tile_s + 3e-6)
    thin = torch_case(1, 8192, 8192)
    assert kernel_for(thin, scenario).time_s(1.0) == pytest.approx(thin.problem.min_bytes / 0.75e12 + 3e-6)
    assert kernel_for(thin, scenario).time_s(0.8) == kernel_for(thin, scenario).time_s(1.0)


def test_a_sequence_takes_slightly_less_than_its_parts():
    scenario = load_scenario("h100")
    parts = [torch_case(256, 4096, 4096), torch_case(256, 14336, 4096), torch_case(256, 4096, 14336)]
    items = tuple(SequenceItem(problem=part.problem, role="x") for part in parts)
    whole = kernel_for(Case(sequence=items, backend="torch"), scenario).time_s(1.0)
    summed = sum(kernel_for(part, scenario).time_s(1.0) for part in parts)
    assert summed - whole == pytest.approx(3 * 0.2 * 2e-6)


def test_inputs_shape_power():
    factors = {"normal": 1.0, "zeros": 0.5, "sparse:0.9": 0.7}
    assert inputs_factor("normal", factors) == 1.0
    assert inputs_factor("sparse:0.5", factors) == 0.75
    assert inputs_factor("sparse:0.9", factors) == 0.7
    assert inputs_factor("sparse:much", factors) == 1.0
    assert inputs_factor("unheard-of", factors) == 1.0
    gpu = SimulatedGpu(plain(power={"inputs": {"zeros": 0.5}}))
    normal, zeros = (gpu.steady(torch_case(inputs=name)) for name in ("normal", "zeros"))
    assert normal.power_w - zeros.power_w == pytest.approx((normal.power_w - IDLE_W) / 2)
    assert normal.time_s == zeros.time_s
