"""Claims about what training and inference cost, and where that goes."""

from __future__ import annotations

from datetime import date
from typing import Final

from flopwatt.analysis.claims.amount import Amount, number, rounded
from flopwatt.analysis.claims.claim import SCALE_3, TRUE_COST, Answer, Claim, Kind, answer, judged, reaches
from flopwatt.analysis.claims.evidence import Evidence, forward_shares
from flopwatt.analysis.claims.given import (
    GPUS,
    compute_of,
    entry,
    gpu_hours,
    memory,
    peak,
    rent,
    run_of,
    training_compute,
    years_between,
)
from flopwatt.analysis.claims.model import gpt_3_hours
from flopwatt.analysis.claims.working import Working, ends
from flopwatt.analysis.facts import quantity as fact
from flopwatt.analysis.facts import read

GROWTH: Final = Claim(
    "cost-growth", "The cost of frontier training grows 2 to 3 times a year, to over $1 billion by 2027", SCALE_3
)
GPT_3: Final = Claim(
    "gpt-3-cost",
    "Training GPT-3-class (175B) models costs millions, in practice tens of millions of dollars",
    TRUE_COST,
)
INFERENCE: Final = Claim("inference", "Inference is much cheaper than training, yet significant at peak", TRUE_COST)
FALLS: Final = Claim("cost-falls", "The cost of training tops out or falls as chips get faster", TRUE_COST)

MILLION: Final = 1e6
TENS: Final = 1e7
BILLION: Final = 1e9
GPT_3_B: Final = 175
"""GPT-3's parameters in 10⁹."""

END: Final = date(2027, 12, 31)
"""The day by which a billion is claimed."""


def growth(_: Evidence) -> Answer:
    """Llama 3.1 405B's GPU-hours at published prices, carried to the end of 2027 at the published growth."""
    working = Working()
    rate = working.fact("growth of cost as others fitted it", fact("cost_growth"))
    run = run_of("Llama-3.1-405B")
    hours = gpu_hours(working, run)
    cost = working.step(f"{run.model}'s GPU-hours in 2024", hours * rent(working, run.gpu), "million USD")
    time = years_between(working, compute_of(run.model).published, END)
    year = working.stated("one year", 1, "year", "definition")
    late = working.find("arithmetic", "as large a run at the end of 2027", cost * rate ** (time / year), "million USD")
    why = (
        f"{number(rate.value)} times a year ({number(rate.low)} to {number(rate.high)}) is published; going on, it "
        f"takes Llama 3.1 405B's GPU-hours from {_dollars(cost)} to {_dollars(late)}"
    )
    kind = reaches((late.low, late.high), BILLION)
    return answer(GROWTH, "over $1,000 million", working, judged(kind, "on the price of an hour and on the trend", why))


def gpt_3(evidence: Evidence) -> Answer:
    """Published GPU-hours of models of this class, at published training speeds, and as the cost model has them."""
    working = Working()
    found = {}
    for model in ("GPT-3", "BLOOM"):
        run = run_of(model)
        name = f"{model} as it was trained on {run.gpu}"
        cost = gpu_hours(working, run) * rent(working, run.gpu)
        found[name] = working.find("published", name, cost, "million USD")
    found |= {f"GPT-3 on {gpu}": cost for gpu, cost in _again(working).items()}
    for gpu in GPUS:
        name = f"GPT-3 on {gpu}, predicted"
        cost = gpt_3_hours(working, evidence, gpu) * rent(working, gpu)
        found[name] = working.find("model", name, cost, "million USD")
    low, high = ends(found.values())
    above = [name for name, cost in found.items() if cost.high >= TENS]
    why = (
        f"{_range(low, high)} for the GPU-hours of one run, and above $10 million only for "
        f"{', '.join(above) or 'none of them'}; runs before the last one, staff and data are not in it"
    )
    kind = reaches((low, high), MILLION)
    return answer(GPT_3, "$1 to 99 million", working, judged(kind, "on the chip and its price", why))


def inference(evidence: Evidence) -> Answer:
    """A token's FLOPs and memory traffic in both, and the forward GEMMs' share in steps that were measured."""
    working = Working()
    six = working.stated("FLOPs a token in training, for each parameter", 6, "FLOP", "forward 2, both gradients 4")
    two = working.stated("FLOPs a token in inference, for each parameter", 2, "FLOP", "forward")
    third = working.find("arithmetic", "a token read by the model, of one trained on", two / six, "×")
    shares = list(forward_shares(evidence))
    for one in shares:
        forward = working.stated(f"forward GEMMs of {one.what}", rounded(one.forward), one.by, "the files given")
        whole = working.stated(f"all GEMMs of {one.what}", rounded(one.total), one.by, "the files given")
        working.find("measured", f"forward share of a step, {one.what}", forward / whole, "%")
    if not shares:
        working.lacks("not measurable here: no run file of a whole training step was given")
    run = run_of("GPT-3")
    size = working.given("GPT-3: parameters", run.params_b * 1e9, "parameters", compute_of("GPT-3"))
    wide = working.stated("bytes of a parameter in bf16", 2, "B", "definition")
    spec = entry(GPUS[1])
    alone = working.step("a token written alone, its weights read once", size * wide / memory(working, spec), "GPU-s")
    rate = _rate(working, spec.name)
    trained = working.step("a token trained on", six * size / rate, "GPU-s")
    worst = working.find("arithmetic", "a token written alone, of one trained on", alone / trained, "×")
    tokens = working.given("GPT-3: tokens trained on", run.tokens_b * 1e9, "tokens", compute_of("GPT-3"))
    level = working.step("tokens read for as much compute as training", tokens / third, "tokens")
    why = (
        f"a token read costs {number(third.value, 2)} of one trained on, a token written alone "
        f"{number(worst.value, 2)} times one, as every weight is read for it; after {number(level.value, 2)} tokens "
        "read, inference has taken as much as training"
    )
    verdict = judged("depends", "on how much is served", why)
    return answer(INFERENCE, "less than 1× a token trained on", working, verdict)


def falls(_: Evidence) -> Answer:
    """The same model on newer chips, and the frontier on chips that get faster each year."""
    working = Working()
    cost = _again(working)
    old, new = (peak(working, entry(name), "bf16") for name in GPUS)
    launches = {row.family: row for row in read("gpu_launches")}
    days = (launches["H100"].announced - launches["A100"].announced).days
    time = working.given("announcement of the A100 to that of the H100", days, "days", launches["H100"])
    year = working.stated("one year", 1, "year", "definition")
    faster = working.step("growth of a chip's dense bf16 peak", (new / old) ** (year / time), "× a year")
    compute = working.fact("growth of frontier compute as others fitted it", fact("compute_growth"))
    hours = working.find("nameplate", "growth of GPU-hours at the frontier", compute / faster, "× a year")
    why = (
        f"the same model falls, GPT-3 from {_dollars(cost[GPUS[0]])} on A100s to {_dollars(cost[GPUS[1]])} on H100s; "
        f"the frontier's compute grows {number(compute.value)} times a year and chips {number(faster.value, 3)} times, "
        f"so that its GPU-hours grow {number(hours.value, 3)} times"
    )
    same, frontier = cost[GPUS[1]].value < cost[GPUS[0]].value, hours.high <= 1
    kind: Kind = "supported" if same and frontier else "depends" if same or frontier else "not supported"
    return answer(FALLS, "at most 1× a year", working, judged(kind, "on what is trained", why))


def _again(working: Working) -> dict[str, Amount]:
    """GPT-3's compute on newer chips, at the training speed published for the model nearest to it in size."""
    flop = training_compute(working, compute_of("GPT-3"))
    found = {}
    for gpu in GPUS:
        hours = working.step(f"GPT-3's compute in hours of {gpu}", flop / _rate(working, gpu), "GPU-h")
        cost = hours * rent(working, gpu)
        found[gpu] = working.find("published", f"GPT-3 on {gpu} at that speed", cost, "million USD")
    return found


def _rate(working: Working, gpu: str) -> Amount:
    """Training speed of a GPU, of the published model that is nearest to GPT-3 in size."""
    row = min((row for row in read("throughput") if row.gpu == gpu), key=lambda row: abs(row.model_b - GPT_3_B))
    return working.given(f"{row.framework}, {number(row.model_b)}B on {gpu}", row.tflops_per_gpu, "TFLOPS", row)


def _dollars(amount: Amount) -> str:
    return f"${number(amount.value / MILLION, 3)} million ({_range(amount.low, amount.high)})"


def _range(low: float, high: float) -> str:
    return f"${number(low / MILLION, 3)} to {number(high / MILLION, 3)} million"
