"""Claims about how much compute models take, how it grows, and how many GPUs that is."""

from __future__ import annotations

from typing import Final

from flopwatt.analysis.claims.amount import Amount, number, quantity
from flopwatt.analysis.claims.claim import BIG_BET, SCALE_3, Answer, Claim, Kind, Verdict, answer, judged
from flopwatt.analysis.claims.evidence import Evidence
from flopwatt.analysis.claims.given import (
    GPUS,
    at_the_meter,
    chip,
    compute_of,
    entry,
    gpu_hours,
    peak,
    published_pair,
    run_of,
    training_compute,
    years_between,
)
from flopwatt.analysis.claims.working import Working, ends
from flopwatt.analysis.facts import quantity as fact
from flopwatt.analysis.facts import read

LLAMA_3: Final = Claim("llama-3.1-gpus", "Llama 3.1 405B took over 16,000 H100s", SCALE_3)
LLAMA_4: Final = Claim("llama-4-gpus", "Llama 4: ten times the compute, or about 160,000 GPUs", SCALE_3)
DOUBLING: Final = Claim("doubling", "Training compute doubles every 3.4 months (since 2012)", SCALE_3)
GROWTH: Final = Claim("growth", "Training compute grew 4 to 5 times a year (2010 to 2024)", SCALE_3)
EQUIVALENTS: Final = Claim("h100-equivalents", "A training system of 200,000 “H100 equivalents”", BIG_BET)

MODEL: Final = "Llama-3.1-405B"
H100: Final = GPUS[1]


def llama_3(_: Evidence) -> Answer:
    """The published count, and whether GPU-hours, FLOPs and utilisation agree with it."""
    working = Working()
    run = run_of(MODEL)
    assert run.gpu_count is not None
    assert run.mfu_low is not None
    assert run.mfu_high is not None
    count = working.published("GPUs in the report", run.gpu_count, "GPUs", run)
    hours = gpu_hours(working, run)
    working.step("days on so many GPUs", hours / count, "days")
    flop = _six_nd(working)
    rate = working.step("sustained over all those hours", flop / hours, "TFLOPS")
    top = peak(working, entry(H100), "bf16")
    share = working.find("arithmetic", "share of the dense peak over all hours", rate / top, "%")
    low, high = 100 * run.mfu_low, 100 * run.mfu_high
    reported = working.given("utilisation while it ran, as reported", (low + high) / 2, "%", run, (low, high))
    holds = count.value > 16_000 and share.value < reported.high
    why = (
        f"{number(count.value)} are published; {number(share.value * 100, 3)} % of peak over all its GPU-hours lies "
        f"below the {number(low, 3)} to {number(high, 3)} % reported while it ran, as it must"
    )
    return answer(LLAMA_3, "16,000 GPUs", working, Verdict("supported" if holds else "not supported", why))


def llama_4(_: Evidence) -> Answer:
    """GPUs that ten times the compute takes: as long as before on the same chip, or otherwise."""
    working = Working()
    run = run_of(MODEL)
    assert run.gpu_count is not None
    count = working.given(f"GPUs of {MODEL}", run.gpu_count, "GPUs", run)
    ten = working.stated("times the compute", 10, "", "the claim")
    same = working.find("arithmetic", "the same chip for as long", ten * count, "GPUs")
    spec = entry(H100)
    faster = peak(working, spec, "fp8") / peak(working, spec, "bf16")
    in_fp8 = working.find("nameplate", "the same in fp8, at its peak", same / faster, "GPUs")
    newer = peak(working, entry("B200-SXM6-180GB"), "bf16") / peak(working, spec, "bf16")
    on_b200 = working.find("nameplate", "the same on B200, at its peak", same / newer, "GPUs")
    twice = working.stated("times as long", 2, "", "for comparison")
    working.find("arithmetic", "the same chip for twice as long", same / twice, "GPUs")
    why = (
        f"on chip, format and time: {number(same.value)} H100s if run in bf16 for as long as {MODEL}, "
        f"{number(in_fp8.value, 3)} in fp8 at its peak, {number(on_b200.value, 3)} B200s, half for twice as long"
    )
    return answer(LLAMA_4, "160,000 GPUs", working, Verdict("depends", why))


def doubling(_: Evidence) -> Answer:
    """What a doubling every 3.4 months from one published model would have made of a later one."""
    working = Working()
    months = working.fact("doubling time", fact("compute_doubling"))
    two = working.stated("a doubling", 2, "", "definition")
    year = working.stated("a year", 12, "months", "definition")
    implied = working.step("that is", two ** (year / months), "× a year")
    start, then = compute_of("GPT-3"), compute_of(MODEL)
    before, after = (training_compute(working, one) for one in (start, then))
    grown = before * two ** (years_between(working, start.published, then.published) / months)
    would = working.step(f"{MODEL} if doubled every 3.4 months since GPT-3", grown, "FLOP")
    excess = working.step("which is too much by", would / after, "×")
    actual = _annual(working, "GPT-3")
    why = (
        f"{number(implied.value, 3)} times a year was found for 2012 to 2018; from GPT-3 it would have made {MODEL} "
        f"{number(excess.value, 2)} times what it took, which is {number(actual.value, 3)} times a year"
    )
    kind: Kind = "not supported" if actual.high < implied.value else "supported"
    return answer(DOUBLING, f"{number(implied.value, 3)}× a year", working, Verdict(kind, why))


def growth(_: Evidence) -> Answer:
    """Growth a year between models whose compute is published."""
    working = Working()
    claimed = working.fact("growth as others fitted it", fact("compute_growth"))
    low, high = ends([_annual(working, first) for first in ("GPT-3", "AlexNet")])
    kind: Kind = "supported" if claimed.low <= low and high <= claimed.high else "depends"
    why = f"{number(low, 3)} to {number(high, 3)} times a year between single models whose compute is published"
    return answer(GROWTH, "4 to 5× a year", working, judged(kind, "on where one starts", why))


def equivalents(_: Evidence) -> Answer:
    """What 200,000 H100s are in FLOP/s, watts, and other chips."""
    working = Working()
    count = working.stated("H100 equivalents", 200_000, "GPUs", "the claim")
    new, old = entry(H100), entry(GPUS[0])
    tops = peak(working, new, "bf16"), peak(working, old, "bf16")
    whole = working.step("dense bf16 peak of all", count * tops[0], "TFLOPS")
    for row in read("throughput"):
        if row.gpu == H100 and row.gpu_count is not None and row.gpu_count > 1000:
            name = f"training, {number(row.model_b)}B on {number(row.gpu_count)} {row.gpu}"
            rate = working.given(name, row.tflops_per_gpu, "TFLOPS", row)
            working.step("at that speed, all", count * rate, "TFLOPS")
    working.step("the boards alone", count * chip(working, H100).power, "MW")
    site = working.step("at the meter", count * at_the_meter(working), "MW")
    by_peak = working.find("nameplate", "A100s for one H100, by dense bf16 peak", tops[0] / tops[1], "×")
    gemm = published_pair(working, "sustained", ("bf16", "bf16"))
    assert gemm is not None
    by_gemm = working.find("published", "A100s for one H100, by a sustained GEMM", gemm[1] / gemm[0], "×")
    low, high = ends([by_peak, by_gemm])
    why = (
        f"on what is held equal: in bf16 one H100 is {number(low, 3)} to {number(high, 3)} A100s, so that these are "
        f"{number(count.value * low, 2)} to {number(count.value * high, 2)} A100s; of H100s they draw "
        f"{number(site.low * 1e-6, 3)} to {quantity(site.high, 'MW', 3)} at the meter. Whether the system stands is "
        "not measurable here"
    )
    return answer(EQUIVALENTS, f"{number(whole.value * 1e-18, 3)} EFLOPS, dense bf16", working, Verdict("depends", why))


def _six_nd(working: Working) -> Amount:
    """6 × parameters × tokens."""
    run = run_of(MODEL)
    parameters = working.given(f"{MODEL}: parameters", run.active_params_b * 1e9, "parameters", run)
    tokens = working.given(f"{MODEL}: tokens", run.tokens_b * 1e9, "tokens", run)
    six = working.stated("FLOPs for each parameter and token", 6, "", "forward 2, both gradients 4")
    return working.step("training compute", six * parameters * tokens, "FLOP")


def _annual(working: Working, first: str) -> Amount:
    """Growth a year from one model to the Llama."""
    start, then = compute_of(first), compute_of(MODEL)
    before, after = (training_compute(working, one) for one in (start, then))
    year = working.stated("one year", 1, "year", "definition")
    rate = (after / before) ** (year / years_between(working, start.published, then.published))
    return working.find("published", f"growth, {first} to {MODEL}", rate, "× a year")
