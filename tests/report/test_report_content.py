"""What the page says, and what it leaves out: figures, headlines, remarks, methods, prices, text that is only text."""

from __future__ import annotations

import json
from itertools import pairwise
from statistics import geometric_mean

import msgspec
import pytest
from pages import A100, H100, board, case, content_of, full_run, measurement, of, run, simulated, table, use

from flopwatt.analysis.report.page import between, pairs, prices, roofs, tiles
from flopwatt.analysis.report.page.content import Content
from flopwatt.analysis.report.page.figure import Figure
from flopwatt.analysis.report.page.markup import embedded, join, tag
from flopwatt.analysis.report.page.methods import environments, paragraphs
from flopwatt.analysis.report.page.remarks import by_file, origin_banners, remarks
from flopwatt.analysis.report.page.table import packed
from flopwatt.analysis.report.page.traces import traces
from flopwatt.errors import InputError
from flopwatt.runs import gpus
from flopwatt.runs.records import Event
from flopwatt.runs.store import RunFile


def drawn(found: object) -> dict[str, Figure]:
    return {one.name: one for one in found if isinstance(one, Figure)}  # type: ignore[attr-defined]


def said(found: object) -> list[str]:
    return [one for one in found if isinstance(one, str)]  # type: ignore[attr-defined]


def values(figure: Figure) -> list[dict[str, object]]:
    found: list[dict[str, object]] = figure.spec["data"]["values"]
    return found


def test_a_boards_label_tells_its_origin_and_its_twin() -> None:
    other = full_run("other")
    twin = msgspec.structs.replace(other.segments[0], board_id="ba9876543210")
    content = content_of(
        full_run(), RunFile(other.path, other.header, (twin,), other.records), simulated(full_run("s"))
    )
    assert [one.label for one in content.boards.values()] == [
        "H100-SXM5-80GB board 012345", "H100-SXM5-80GB board ba9876", "H100-SXM5-80GB (simulated)",
    ]  # fmt: skip
    assert {row["board"] for row in content.cases} == {one.label for one in content.boards.values()}


def test_a_sample_is_even_and_said() -> None:
    content = content_of(table(1000), most=100)
    assert len(content.cases) == 100
    sizes = [row["m"] for row in content.cases]
    assert sizes == sorted(sizes)
    gaps = {b - a for a, b in pairwise(sizes)}
    assert gaps == {80}
    assert content.left_out == 900
    assert any("900 cases are not in table and figures" in words for words in remarks(content))


def test_all_is_shown_where_it_fits() -> None:
    shared = of(uses=(use("one"), use("two", role="down")))
    content = content_of(run("shared", shared), most=1)
    assert [row["suite"] for row in content.cases] == ["one", "two"]
    assert content.left_out == 0


def test_points_of_the_roofline_are_the_cases() -> None:
    content = content_of(full_run())
    figures = drawn(roofs.figures(content))
    points = values(figures["roofline"])
    assert len(points) == 48
    for point in points:
        row = content.cases[int(str(point["i"]))]
        assert point["y"] == row["tflops"]
        assert point["x"] == row["flop"] / row["bytes"]
    line = figures["roofline"].spec["layer"][0]["data"]["values"]
    assert max(at["y"] for at in line) == pytest.approx(989.4, rel=1e-3)
    spec = gpus.find(H100.gpu)
    assert spec is not None
    ridge = spec.peak["bf16"] / spec.mem_bytes_per_s
    assert any(at["x"] == pytest.approx(ridge) for at in line)
    share = values(figures["efficiency"])[0]
    assert share["y"] == pytest.approx(content.cases[0]["tflops"] / 989.4, rel=1e-3)
    assert {str(point["r"]) for point in values(figures["per-watt"])} == {"sustained"}
    assert {str(point["backend"]) for point in points} == {
        "torch", "torch on zeros", "triton-tiled", "triton-tiled on zeros",
    }  # fmt: skip


def test_a_case_of_two_suites_is_one_point() -> None:
    content = content_of(run("shared", of(uses=(use("one"), use("two")))))
    assert len(content.cases) == 2
    assert len(values(drawn(roofs.figures(content))["roofline"])) == 1


def test_pairs_hold_their_ratio() -> None:
    content = content_of(full_run())
    figures = drawn(pairs.figures(content))
    ratios = [value["y"] for value in values(figures["cublas"])]
    assert ratios == pytest.approx([0.5] * 16, rel=1e-3)
    assert all(value["low"] < value["y"] < value["high"] for value in values(figures["cublas"]))  # type: ignore[operator]
    regimes = values(figures["regimes"])
    assert len(regimes) == 16
    assert [value["y"] / value["x"] for value in regimes] == pytest.approx([0.5] * 16, rel=1e-3)  # type: ignore[operator]
    price = {value["metric"]: value["y"] for value in values(figures["inputs"])}
    assert price["TFLOPS"] == pytest.approx(2.0, rel=1e-3)
    assert price["watts"] == pytest.approx(0.8, rel=1e-2)
    assert price["TFLOPS/W"] == pytest.approx(2.5, rel=1e-2)


def test_boards_and_origins_are_told_apart_in_every_figure() -> None:
    content = content_of(full_run(), simulated(full_run("s")), full_run("a", A100, 0.4))
    labels = {board.label for board in content.boards.values()}
    assert len(labels) == 3
    for figure in [*drawn(roofs.figures(content)).values(), *drawn(pairs.figures(content)).values()]:
        points = next(layer for layer in figure.spec["layer"] if layer["mark"].get("tooltip"))["encoding"]
        told = [points[channel] for channel in ("fill", "shape") if points[channel].get("field") == "board"]
        assert told, figure.name
        assert set(told[0]["scale"]["domain"]) == labels


def test_what_cannot_be_drawn_says_why() -> None:
    content = content_of(table(3))
    assert said(pairs.figures(content)) == [
        "Ratio to cuBLAS: it needs the same case by PyTorch and by another backend: "
        "flopwatt run --backend torch --backend triton-tiled.",
        "Burst against sustained: no case was measured in both regimes (--regime burst --regime sustained).",
        "Price of data: no case was measured on more than one kind of operands (--inputs normal --inputs zeros).",
    ]
    assert [words.split(":")[0] for words in said(roofs.figures(content))] == ["TFLOPS per watt"]
    assert traces(content) == []
    failed = run("failed", of(status="failed", reason="no memory", measurement=None))
    assert said(roofs.figures(content_of(failed))) == ["No case has a time: there is no roofline to draw."]


def test_traces_are_readings_with_their_reasons() -> None:
    raw = measurement(reasons=0)
    assert raw.power is not None
    count = len(raw.power.t_ns)
    reasons = tuple(0x4 if index < 10 else 0x20 if 20 <= index < 30 else 0 for index in range(count))
    raw = msgspec.structs.replace(raw, power=msgspec.structs.replace(raw.power, reasons=reasons))
    (trace,) = traces(content_of(run("one", of(measurement=raw))))
    panels = {one.name.rsplit("-", 1)[1]: one for one in trace.figures}
    assert list(panels) == ["power", "clock", "temp", "reasons"]
    assert values(panels["power"])[:2] == [{"t": 0.0, "v": 500.0}, {"t": 0.05, "v": 500.0}]
    assert values(panels["reasons"]) == [
        {"a": 0.0, "b": 0.5, "kind": "power cap"},
        {"a": 1.0, "b": 1.5, "kind": "heat"},
    ]


def test_long_traces_are_thinned_and_few_cases_kept() -> None:
    long = measurement(seconds=130.0)
    found = traces(content_of(run("many", *(of(case(64 * (n + 1)), measurement=long, index=n) for n in range(12)))))
    assert len(found) == 8
    assert {trace.stride for trace in found} == {3}
    assert max(len(values(one)) for trace in found for one in trace.figures) <= 1200


def cards(content: Content, **given: float) -> str:
    return str(
        tiles.cards(content, prices.resolve({k.lower(): v for k, v in given.items()}, list(content.boards.values())))
    )


def test_headline_cards_hold_every_figure() -> None:
    text = cards(content_of(run("one", of(uses=(use(count=2),)))), H100=2.0)
    for figure in ("<b>137</b>", "<b>500</b>", "<b>0.275</b>", "<b>3.64</b>", "<b>0.00100</b>", "<b>68.7</b>"):
        assert figure in text, figure
    assert "0.247 EFLOP a dollar at $2.00 an hour" in text
    assert "gain may be off by 5 %" in text


def test_no_price_is_ever_assumed() -> None:
    text = cards(content_of(run("one", of())))
    assert "--price &#x27;H100-SXM5-80GB=USD_PER_HOUR&#x27;" in text
    assert "EFLOP" not in text


def test_without_a_step_the_highest_case_is_called_that() -> None:
    text = cards(content_of(table(5)))
    assert "No training step in these files; the highest of 5 cases" in text
    assert "8×4096×4096" in text
    assert "no watts in these files" in text


@pytest.mark.parametrize("word", ["H100", "H100=", "=2", "H100=-1", "H100=nan", "H100=inf", "H100=two"])
def test_a_price_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(InputError, match="GPU=USD_PER_HOUR"):
        prices.parse([word])


def test_prices_find_their_gpu() -> None:
    content = content_of(full_run("a", A100), full_run())
    boards = list(content.boards.values())
    found = prices.resolve(prices.parse(["a100=1.5", "H100-SXM5-80GB=3", "H100=4"]), boards)
    assert [found[one.key] for one in boards] == [1.5, 3.0]
    with pytest.raises(InputError, match=r"hold A100-SXM4-80GB, H100-SXM5-80GB"):
        prices.resolve({"b200": 1.0}, boards)
    with pytest.raises(InputError, match="both mean H100"):
        prices.resolve({"h100": 1.0, "h100-sxm5": 2.0}, boards)


def test_two_boards_are_compared_and_their_gains_named() -> None:
    content = content_of(full_run("a", A100, 0.4), full_run())
    (found,) = between.betweens(content)
    assert (found.base.name, found.new.name) == ("A100-SXM4-80GB", "H100-SXM5-80GB")
    assert found.result is not None
    groups = between.groups(found.result)
    assert geometric_mean(groups[0].speedups) == pytest.approx(2.5, rel=1e-2)
    assert geometric_mean(groups[0].per_watt) == pytest.approx(2.5, rel=1e-2)
    nameplate = {dtype: (speed, watt) for dtype, speed, watt in between.nameplates(found.base.spec, found.new.spec)}  # type: ignore[arg-type]
    speed, watt = next(ratio for dtypes, ratio in nameplate.items() if "bf16" in dtypes)
    assert speed == pytest.approx(989.4 / 312, rel=1e-3)
    assert watt == pytest.approx(989.4 / 312 * 400 / 700, rel=1e-3)


def test_unmeasured_watts_are_said_plainly() -> None:
    without = table(3)
    machine = board(A100, "a" * 12)
    content = content_of(RunFile(without.path, without.header, (machine,), without.records), full_run())
    found = between.without_watts(content, list(content.boards.values()))
    assert found == ["A100-SXM4-80GB watts unmeasured: these files hold no watts of it that could be believed."]
    (pair,) = between.betweens(content)
    assert pair.result is None
    assert "origin" in str(pair.why)
    of_simulation = content_of(simulated(full_run()))
    assert between.without_watts(of_simulation, list(of_simulation.boards.values())) == [
        "H100-SXM5-80GB watts unmeasured: those shown are simulated."
    ]


def test_remarks_count_what_went_wrong() -> None:
    records = [of(case(64 * (n + 1)), index=n, status="failed", reason="no memory", measurement=None) for n in range(3)]
    records += [of(case(8192), index=9, energy_status="refused", energy_reason="too short")]
    records += [of(case(4096), index=10)]
    found = run("bad", *records)
    torn = RunFile(
        found.path, found.header, found.segments, found.records, (Event(at="t", what="w", message="hm"),), torn=True
    )
    content = content_of(torn)
    told = remarks(content)
    assert "3 records failed: no memory." in told
    assert "1 record has energy status refused: too short." in told
    assert any("power cap held the clock down in 2 of 2 sustained cases" in words for words in told)
    assert any("was not identified" in words for words in told)
    (of_file,) = by_file(content).values()
    assert of_file[0].startswith("The last line was cut off")
    assert "hm" in of_file


def test_heat_is_told() -> None:
    told = remarks(content_of(run("hot", of(measurement=measurement(reasons=0x20)))))
    assert any("Heat held the clock down in 1 of 1 sustained cases, at most for 100 %" in words for words in told)


def test_banners_for_what_is_not_measured() -> None:
    assert list(origin_banners(content_of(full_run()))) == []
    both = dict(origin_banners(content_of(simulated(full_run()), table(2, licence="CC0"))))
    assert list(both) == ["simulated", "imported", "mixed"]
    assert "somebody's table (licence: CC0)" in both["imported"]


def test_methods_say_what_was_done() -> None:
    text = " ".join(paragraphs(content_of(full_run())))
    for words in (
        "We measured 8 GEMM shapes (bf16 and fp16) by torch and triton-tiled on one NVIDIA H100 80GB HBM3, power limit "
        "700 W, with flopwatt 0.1.0 (torch 2.13.0, driver 575.1).",
        "Operands: normal and zeros, cycled through more than twice the last-level cache.",
        "(effort fast, 32 cases)",
        "Bursts (16 cases) were at most 25 ms",
        "from the energy counter",
        "The power sensor (nvml) was not identified; its gain may be off by 5 %.",
        "one process ran",
    ):
        assert words in text, words
    assert "SIMULATION" in paragraphs(content_of(simulated(full_run())))[0]
    assert "were not measured by us but taken from somebody's table" in paragraphs(content_of(table(2)))[0]


def test_environment_of_every_machine_once() -> None:
    found = dict(environments(content_of(full_run(), full_run("a", A100))))
    assert dict(found["H100-SXM5-80GB"])["power limit"] == "700 W"
    assert dict(found["A100-SXM4-80GB"])["SMs"] == str(A100.sm_count)
    assert H100.gpu in dict(found["H100-SXM5-80GB"]).values()


def test_packed_columns_give_back_their_words() -> None:
    content = content_of(full_run())
    columns = {column["key"]: column for column in packed(content.cases)}
    backend = columns["backend"]
    assert [backend["words"][code] for code in backend["codes"]] == [row["backend"] for row in content.cases]
    assert columns["tflops"]["values"][0] == pytest.approx(content.cases[0]["tflops"], rel=1e-4)
    assert "phase" in columns
    assert "config" not in columns, "a column that says nothing is left out"


def test_markup_escapes_all_that_it_did_not_make() -> None:
    inside = tag("b", "<i>&\"'")
    assert inside == "<b>&lt;i&gt;&amp;&quot;&#x27;</b>"
    assert tag("p", inside, title='"><script>') == f'<p title="&quot;&gt;&lt;script&gt;">{inside}</p>'
    assert join("<", inside) == f"&lt;{inside}"


def test_embedded_json_cannot_end_its_script() -> None:
    value = {"</script>": ["<!--", "&lt;", "\u2028", "\u202e", 'a"b\\']}
    text = embedded(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value
    with pytest.raises(ValueError, match="JSON"):
        embedded(float("nan"))
