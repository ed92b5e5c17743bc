"""A comparison in words: what its intervals hold, and one plain sentence for each total."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from flopwatt.analysis.comparing.comparison import CaseComparison, RunComparison
from flopwatt.analysis.comparing.ratios import WORDS
from flopwatt.analysis.comparing.totals import SuiteComparison
from flopwatt.analysis.report.quantities import DASH, significant
from flopwatt.runs.stats import RUN_TO_RUN, Interval

MOST_NAMED: Final = 5
"""Cases named in a list, and sentences in a conclusion; more are counted."""

_SENTENCE: Final = {
    "time": "takes {} the time of",
    "tflops": "gives {} the TFLOPS of",
    "power": "draws {} the watts of",
    "energy": "takes {} the joules of",
    "tflops-per-w": "gives {} the TFLOPS/W of",
}


def times(value: float) -> str:
    """A ratio: 1.031×, 12.4×."""
    return f"{value:.3f}×" if 0.01 <= value < 9.9995 else f"{significant(value)}×"


def interval(found: Interval) -> str:
    """The ends of a ratio's interval: 1.020–1.042."""
    if found.low is None or found.high is None:
        return DASH
    return f"{times(found.low)[:-1]}–{times(found.high)[:-1]}"


def share(value: float) -> str:
    """A relative figure in percent: 1 %, 0.5 %, 7.1 %, 150 %."""
    percent = value * 100
    return f"{percent:.2g} %" if percent < 99.5 else f"{percent:.0f} %"


def conclusion(result: RunComparison) -> list[str]:
    """One sentence a suite, and one per watt where both sides have energy; one for all where nothing is totalled."""
    metrics = [result.options.metric]
    if not {"energy", "tflops-per-w"}.intersection(metrics):
        metrics.append("tflops-per-w")
    told = [_of(result, suite, _name(result, suite), metric) for suite in result.suites for metric in metrics]
    sentences = [sentence for sentence in told if sentence]
    if len(sentences) > MOST_NAMED:
        left = len(sentences) - MOST_NAMED
        return [*sentences[:MOST_NAMED], f"and {left} more sentences: --format json gives every total."]
    return sentences or [_of_cases(result)]


def _name(result: RunComparison, suite: SuiteComparison) -> str:
    key = suite.key
    facts = (fact for run in (*result.base, *result.new) for fact in run.header.suites)
    model = next((fact.model for fact in facts if fact.name == key.suite and fact.model), None)
    name = f"{model} ({key.suite})" if model and model != key.suite else key.suite
    words = [name, suite.dtype]
    words += [] if key.regime == "sustained" else [key.regime]
    words += [] if key.inputs == "normal" else [f"{key.inputs} inputs"]
    if suite.backends[0] == suite.backends[1]:
        words += [f"by {key.backend}"] if key.backend and len(result.suites) > 1 else []
    else:
        words += [f"{suite.backends[1]} against {suite.backends[0]}"]
    return ", ".join(words)


def _of(result: RunComparison, one: CaseComparison | SuiteComparison, name: str, metric: str) -> str | None:
    found = result.judged(one, metric)
    if found is None:
        return None
    ends = interval(found.interval)
    ratio = times(found.ratio) + ("" if ends == DASH else f" ({ends})")
    verdict = found.verdict
    if verdict == "same":
        verdict = f"the same within {share(result.options.threshold)}"
    elif verdict == "inconclusive" and found.total.low is not None:
        verdict = f"inconclusive at a threshold of {share(result.options.threshold)}"
    gains = ""
    if found.systematic is None:
        gains = "; the gain of a sensor is not known, which leaves the watts of two boards incomparable"
    elif found.systematic:
        gains = f"; the gains of the two sensors add ±{share(found.systematic)}"
    return f"{name}: NEW {_SENTENCE[found.metric].format(ratio)} BASE: {verdict}{gains}."


def _of_cases(result: RunComparison) -> str:
    metric = result.options.metric
    with_ratio = [case for case in result.cases if case.ratio(metric) is not None]
    if not with_ratio:
        return f"No case has {metric} on both sides: nothing can be told."
    if len(with_ratio) == 1:
        sentence = _of(result, with_ratio[0], with_ratio[0].base.identity.label, metric)
        assert sentence is not None
        return sentence
    counts = Counter(result.verdicts(with_ratio))
    told = ", ".join(f"{count:,} {verdict}" for verdict, count in counts.most_common())
    ratios = [found.value for case in with_ratio if (found := case.ratio(metric))]
    return (
        f"Of {len(with_ratio):,} cases: {told}; NEW/BASE in {metric} from {times(min(ratios))} to {times(max(ratios))}."
    )


def notes(result: RunComparison) -> Iterator[str]:
    """What a reader must know of the intervals and verdicts, and how to compare what was not."""
    threshold = share(result.options.threshold)
    good, bad = WORDS[result.options.metric]
    yield (
        f"same: the whole interval within ±{threshold}; {good}, {bad}: the interval excludes 1 and the ratio is beyond "
        f"{threshold}"
    )
    if len(result.cases) > 1:
        yield "each verdict is 95 % sure by itself, and of many some will be wrong: judge by the totals"
    sides = [side for case in result.cases for side in (case.base, case.new)]
    alone = sum(len(side.timed) == 1 for side in sides)
    if result.boards is not None:
        yield from _boards(*result.boards)
    elif alone:
        which = "" if alone == len(sides) else f" in {alone:,} of {len(sides):,} places"
        yield (
            f"one process alone{which}: its interval carries the run-to-run spread of the board's repeated cases, "
            f"{share(RUN_TO_RUN)} where too few were repeated; --processes 3 measures it"
        )
    if any(case.base.identity.dtype != case.new.identity.dtype for case in result.cases):
        yield (
            "two formats in a pair: their results are not equally accurate, and no time holds the conversion of "
            "operands to fp8 or their transposition"
        )
    if any(sample.time_s and sample.time_s.low is None for side in sides for sample in side.samples):
        yield "some (imported) figures state no error of their own: their intervals hold the run-to-run spread alone"
    gains = [found.systematic for case in result.cases if (found := case.energy)]
    if gains and all(gain == 0 for gain in gains):
        yield "one board, one sensor: its gain cancels in every ratio"
    elif known := [gain for gain in gains if gain]:
        boards = "two boards" if result.boards is None else "several boards"
        yield f"{boards}: the gains of their sensors add ±{share(max(known))} to ratios of watts, verdicts included"
    if len(gains) < len(result.cases):
        yield f"{len(result.cases) - len(gains):,} of {len(result.cases):,} cases have no energy on both sides"
    for difference in result.differences:
        named = " and ".join(
            f"{name} ({', '.join(base)}; {', '.join(new)})"
            for name, (base, new) in zip(difference.fields, difference.values, strict=True)
        )
        count, remedy = f"{difference.cases:,}", _remedy(difference.fields)
        yield f"{count} cases of one side differ from the other's in {named} alone{remedy}"


def _boards(base: int, new: int) -> Iterator[str]:
    """That boards were sampled, and what one alone carries."""
    yield f"boards are the sample, {base} in BASE and {new} in NEW: every ± holds how much boards of a type differ"
    if min(base, new) < 2:
        yield (
            "one board alone carries the other side's spread between boards, "
            f"{share(RUN_TO_RUN)} where too few were compared"
        )


def _remedy(fields: tuple[str, ...]) -> str:
    mixable = ",".join(name for name in fields if name != "backend")
    across = "--best or --base-backend and --new-backend" if "backend" in fields else ""
    return ": " + " and ".join(filter(None, (f"--allow-mixed {mixable}" if mixable else "", across))) + " pairs them"
