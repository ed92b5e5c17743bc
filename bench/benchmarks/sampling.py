"""What reading power costs the load beside it: throughput with the sampler on over that with it off, minus 1.

Here a CPU computes a GEMM in PyTorch while the sampler process polls through the unmodified NVML bindings, on the fake
NVML library of the tests (a real GPU's calls take longer, in the sampler's process and not the load's); on and off
alternate within one load. Then the same estimate on simulated GPUs, without and with a slowdown that it must find.
Exits 1 where the cost lies beyond 0.2 % with 95 % confidence; noise above that only widens the interval printed. On
a machine that others keep busy throughput says nothing of the sampler: shown, and not judged. What the sampler's
process computes is its own affair on any machine, so that is measured too, and always judged: it must not spin.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec
import torch

from flopwatt.measurement.device import choose, describe_cpu
from flopwatt.measurement.hardware import HardwareRig
from flopwatt.measurement.identify import with_sampling_effect
from flopwatt.measurement.perturbation import TARGET, measure_perturbation
from flopwatt.measurement.power.process import ProcessSampler, open_sampler
from flopwatt.measurement.rig import Prepared
from flopwatt.measurement.simulation.loading import load_scenario
from flopwatt.measurement.simulation.rig import SimulatedRig
from flopwatt.measurement.timing_cpu import CpuTimer
from flopwatt.runs.records import SensorIdentity
from flopwatt.runs.stats import Interval

SIDE: Final = 512
PAIRS: Final = 45
STRETCH_S: Final = 0.4
BUSY: Final = 0.5
"""Processors that others may keep busy while this is judged."""

CPU_MOST: Final = 0.03
"""Of one processor, for the sampler in steady state. Polling every 1.5 ms throughout, as when a sensor is identified,
takes about this; waiting in a loop for an edge would take most of one."""
CPU_LEARN_S: Final = 3.0
CPU_S: Final = 8.0
"""Seconds until the counter's tick is known, and seconds watched: 10 ms of the kernel's accounting are then 0.1 %."""

SLOWDOWN: Final = 0.01
SEEDS: Final = 5


def main() -> int:
    """Prints a line a rig; the exit code."""
    print(f"{'load':<22}{'sampler':<28}{'on against off':>15}  {'95 % interval':<20}")
    good = True
    others = os.getloadavg()[0]
    try:
        cpu, share = on_this_cpu()
    except AssertionError as error:  # no C compiler: the fake cannot be built
        print(f"{'CPU':<22}not measured: {error}")
    else:
        good &= share <= CPU_MOST
        print(f"{'none':<22}{'process, fake NVML':<28}{share:>14.1%}   of one processor, at most {CPU_MOST:.0%}")
        within = show(f"CPU, fp32 {SIDE}^3", "process, fake NVML", cpu, within=True)
        if others > BUSY:
            print(f"{'':<22}not judged: other processes kept {others:.1f} of {os.cpu_count()} processors busy")
        else:
            good &= within
    for name in ("a100", "h100"):
        for slowdown in (0.0, SLOWDOWN):
            found = simulated(name, slowdown)
            sampler = f"virtual, costs {slowdown:.0%}" if slowdown else "virtual, costs nothing"
            good &= show(f"simulated {name}", sampler, found, within=not slowdown)
    return 0 if good else 1


def show(load: str, sampler: str, effect: Interval, *, within: bool) -> bool:
    """Prints the effect; whether it is not significantly beyond the bound, or, not `within`, whether it was found."""
    assert effect.low is not None
    assert effect.high is not None
    beyond = effect.high < -TARGET or effect.low > TARGET
    half = (effect.high - effect.low) / 2
    verdict = "beyond 0.2 %" if beyond else "within 0.2 %" if half < TARGET else "no difference seen, noise above 0.2 %"
    interval = f"{effect.low:+.2%} to {effect.high:+.2%}"
    print(f"{load:<22}{sampler:<28}{effect.value:>+14.2%}   {interval:<20}{verdict}")
    return beyond is not within


def on_this_cpu() -> tuple[Interval, float]:
    """The cost of the real sampler process to a GEMM loop on this CPU, the fake library in place of a driver; and the
    share of a processor that it takes.
    """
    sys.path.append(str(Path(__file__).parents[2] / "tests"))
    build = importlib.import_module("fake_nvml.build")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        scenario = build.write_scenario(place / "scenario.txt", origin_ns=time.monotonic_ns(), load_from_s=0)
        os.environ.update(build.environment(build.build(place / "library"), scenario))
        device = choose("cpu")
        rig = HardwareRig(device, describe_cpu(device), None, open_sampler("nvml"))
        if not isinstance(rig.sampler, ProcessSampler):
            raise SystemExit(f"the sampler did not open: {rig.sampler.peek().unreadable}")
        torch.set_num_threads(1)  # a second thread would wait for whatever else this machine does
        apart(rig.sampler.pid)
        a, b = torch.randn(2, SIDE, SIDE).unbind()
        out = torch.empty(SIDE, SIDE)

        def step(_: int) -> None:
            torch.mm(a, b, out=out)

        try:
            share = cpu_share(rig.sampler)
            prepared = Prepared(timer=CpuTimer(step, rig.clock), config={})
            return measure_perturbation(rig, prepared, pairs=PAIRS, stretch_s=STRETCH_S), share
        finally:
            rig.close()


def cpu_share(sampler: ProcessSampler) -> float:
    """Processor seconds a second that the sampler's process takes once it has learnt the counter's tick."""
    sampler.start()
    time.sleep(CPU_LEARN_S)
    begun_s, used_s = time.monotonic(), cpu_s(sampler.pid)
    time.sleep(CPU_S)
    share = (cpu_s(sampler.pid) - used_s) / (time.monotonic() - begun_s)
    sampler.stop()
    return share


def cpu_s(pid: int) -> float:
    """Processor seconds that a process has taken: utime and stime of proc(5)'s stat, after the name in parentheses."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def apart(sampler_pid: int) -> None:
    """Load and sampler on a processor each where there are two, as a GPU's machine has many."""
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) > 1:
        os.sched_setaffinity(0, processors[:1])
        os.sched_setaffinity(sampler_pid, processors[1:])


def simulated(name: str, slowdown: float) -> Interval:
    """What the identification finds of a simulated sampler that slows the load by `slowdown`; the mean over seeds."""
    scenario = load_scenario(name)
    faults = msgspec.structs.replace(scenario.faults, sampling_slowdown=slowdown)
    scenario = msgspec.structs.replace(scenario, faults=faults)
    found = []
    for seed in range(SEEDS):
        rig = SimulatedRig(scenario, seed=seed, idle=False)
        identity = with_sampling_effect(rig, SensorIdentity(source="simulated", method="identified"))
        assert identity.sampling_effect is not None
        assert identity.sampling_effect_low is not None
        assert identity.sampling_effect_high is not None
        found.append((identity.sampling_effect, identity.sampling_effect_low, identity.sampling_effect_high))
    value, low, high = (sum(column) / SEEDS for column in zip(*found, strict=True))
    return Interval(value, low, high)


if __name__ == "__main__":
    sys.exit(main())
