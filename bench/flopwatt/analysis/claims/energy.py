"""Claims that hold the electricity of AI against that of people and homes."""

from __future__ import annotations

from typing import Final

from flopwatt.analysis.claims.amount import number, quantity
from flopwatt.analysis.claims.claim import RACE, SCALE_3, Answer, Claim, Verdict, answer, judged, reaches
from flopwatt.analysis.claims.evidence import Evidence
from flopwatt.analysis.claims.given import GPUS, at_the_meter, chip, gpu_hours, run_of
from flopwatt.analysis.claims.model import gpt_3_energy
from flopwatt.analysis.claims.working import Working, ends
from flopwatt.analysis.facts import quantity as fact
from flopwatt.analysis.facts import read

PEOPLE: Final = Claim("five-gigawatts", "5 GW of supply equals the annual need of about three million people", SCALE_3)
HOMES: Final = Claim("homes", "Training one large model uses the yearly energy of tens of thousands of homes", RACE)
MILLION: Final = Claim("million-gpus", "Megaprojects of a million GPUs", RACE)

TENS_OF_THOUSANDS: Final = 20_000.0
LARGEST: Final = "Llama-3.1-405B"


def people(_: Evidence) -> Answer:
    """People whose electricity 5 GW makes in a year, by whose electricity is counted."""
    working = Working()
    supply = working.stated("supply", 5, "GW", "the claim")
    year = working.stated("a year", 1, "year", "definition: 365.25 days")
    made = working.step("made in a year", supply * year, "TWh")
    inhabitants = working.fact("people in the United States", fact("us_population"))
    each = working.step(
        "all electricity of one of them",
        working.fact("all electricity there", fact("us_electricity_per_year")) / inhabitants,
        "kWh",
    )
    all_of_it = working.find(
        "arithmetic", "people in the United States, all their electricity", made / each, "million people"
    )
    home = working.step(
        "of that at home",
        working.fact("electricity of homes there", fact("us_home_electricity_per_year")) / inhabitants,
        "kWh",
    )
    at_home = working.find("arithmetic", "people in the United States, at home alone", made / home, "million people")
    world = working.fact("all electricity of one person, mean of the world", fact("world_electricity_per_person"))
    anywhere = working.find("arithmetic", "people anywhere", made / world, "million people")
    counted = {
        "all electricity that the United States use": all_of_it,
        "what is used in homes there": at_home,
        "the world's mean": anywhere,
    }
    told = ", ".join(f"{number(found.value * 1e-6, 3)} million by {name}" for name, found in counted.items())
    return answer(PEOPLE, "3 million people", working, judged("depends", "on whose need", told))


def homes(evidence: Evidence) -> Answer:
    """Homes whose yearly electricity each published run took, at the boards' limit and at the meter."""
    working = Working()
    home = working.fact("electricity of a home in the United States, a year", fact("home_electricity_per_year"))
    found = []
    for run in read("training_runs"):
        if run.energy_mwh is not None:
            basis = "estimated" if run.energy_basis == "estimated" else "from board power"
            energy = working.given(f"{run.model}: energy, {basis}", run.energy_mwh, "MWh", run)
            found.append(working.find("published", run.model, energy / home, "homes"))
    for gpu in GPUS:
        energy = gpt_3_energy(working, evidence, gpu)
        found.append(working.find("model", f"GPT-3 on {gpu}", energy / home, "homes"))
    largest = run_of(LARGEST)
    hours = gpu_hours(working, largest)
    boards = working.step(f"{LARGEST} at the boards' limit", hours * chip(working, largest.gpu).power, "MWh")
    found.append(working.find("nameplate", f"{LARGEST}, boards alone", boards / home, "homes"))
    meter = at_the_meter(working)
    site = working.step(f"{LARGEST} at the meter, servers at their maximum", hours * meter, "MWh")
    found.append(working.find("nameplate", f"{LARGEST}, at the meter", site / home, "homes"))
    wanted = working.stated("tens of thousands", TENS_OF_THOUSANDS, "homes", "the claim: twenty thousand at least")
    needed = working.step("H100-hours that this takes", wanted * home / meter, "GPU-h")
    times = working.step(f"which is {LARGEST}, times", needed / hours, "×")
    low, high = ends(found)
    why = (
        f"{number(low, 2)} to {number(high, 2)} homes for runs of published or predicted energy and GPU-hours; "
        f"{number(TENS_OF_THOUSANDS)} homes are {number(times.low, 2)} to {number(times.high, 2)} times the largest run"
    )
    kind = reaches((max(one.low for one in found), high), TENS_OF_THOUSANDS)
    return answer(HOMES, "20,000 homes or more", working, judged(kind, "on the model", why))


def million(_: Evidence) -> Answer:
    """What a million GPUs draw, and how many 5 GW feed."""
    working = Working()
    count = working.stated("GPUs", 1_000_000, "GPUs", "the claim")
    one = chip(working, GPUS[1])
    boards = working.find("nameplate", "the boards alone", count * one.power, "GW")
    meter = at_the_meter(working)
    site = working.find("nameplate", "at the meter, servers at their maximum", count * meter, "GW")
    supply = working.stated("supply", 5, "GW", f"another claim, {SCALE_3}")
    fed = working.step("H100s that it feeds", supply / meter, "GPUs")
    why = (
        f"whether they are built no GPU tells. A million H100s draw {quantity(boards.value, 'GW', 2)} at their boards "
        f"and {number(site.low * 1e-9, 3)} to {quantity(site.high, 'GW', 3)} at the meter; 5 GW would feed "
        f"{number(fed.low * 1e-6, 2)} to {number(fed.high * 1e-6, 2)} million"
    )
    return answer(MILLION, "1,000,000 GPUs", working, Verdict("not measurable here", why))
