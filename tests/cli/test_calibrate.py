"""`flopwatt calibrate` and `flopwatt predict` as a user starts them."""

import csv
import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flopwatt_process import flopwatt

sys.path.insert(0, str(Path(__file__).parents[1] / "calibrate"))
from made_up_gpu import points, write

COLUMNS = [
    "m", "n", "k", "batch", "dtype", "layout", "time_s", "time_s_low", "time_s_high",
    "power_w", "power_w_low", "power_w_high", "energy_j", "energy_j_low", "energy_j_high", "extrapolated",
]  # fmt: skip


@pytest.fixture(scope="module")
def calibration(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibration")
    run = write(folder / "run.jsonl", points(150))
    done = flopwatt("calibrate", run, "-o", folder / "cal.json")
    assert done.returncode == 0, done.stderr
    assert "Made-up 100 (imported): errors on (N, K) sites held out" in done.stdout
    return folder / "cal.json"


def test_csv_rows_come_in_the_order_asked_with_every_column(calibration, tmp_path):
    shapes = tmp_path / "shapes.csv"
    shapes.write_text("m,n,k,layout\n4096,512,64,nt\n128,128,128,nn\n64,2048,1024,\n")
    done = flopwatt("predict", calibration, "--shape", "256x256x256", "--shapes", shapes, "--format", "csv")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(rows[0]) == COLUMNS
    assert [(row["m"], row["layout"]) for row in rows] == [("256", "nt"), ("4096", "nt"), ("128", "nn"), ("64", "nt")]
    assert [row["extrapolated"] for row in rows] == ["False", "False", "True", "False"]
    for row in rows:
        for name in ("time_s", "power_w", "energy_j"):
            assert 0 < float(row[name + "_low"]) <= float(row[name]) <= float(row[name + "_high"])


def test_json_is_the_same(calibration):
    done = flopwatt("predict", calibration, "--shape", "4x256x512x1024", "--format", "json")
    row = json.loads(done.stdout)[0]
    assert list(row) == COLUMNS
    assert (row["batch"], row["m"], row["n"], row["k"], row["extrapolated"]) == (4, 256, 512, 1024, True)


def test_the_table_says_what_is_extrapolated(calibration):
    done = flopwatt("predict", calibration, "--shape", "131072x16384x16384")
    assert done.returncode == 0
    assert "extrapolated" in done.stdout


def test_a_spec_sheet_alone_is_written_and_marked(tmp_path):
    path = tmp_path / "h100.json"
    done = flopwatt("calibrate", "--gpu", "H100-SXM5-80GB", "-o", path)
    assert done.returncode == 0, done.stderr
    assert "unvalidated: fp32, tf32, bf16" in done.stdout
    content = json.loads(path.read_text())
    assert (content["unvalidated"], content["origin"], content["sources"]) == (True, None, [])
    row = json.loads(flopwatt("predict", path, "--shape", "8192x8192x8192", "--format", "json").stdout)[0]
    flop = 2 * 8192**3
    assert row["time_s_low"] <= flop / 750e12 <= row["time_s_high"]
    assert row["time_s_low"] >= flop / 1071e12 * 0.999
    assert 0.2 * 700 <= row["power_w"] <= row["power_w_high"] <= 700
    assert row["power_w_high"] > 3 * row["power_w_low"]
    assert row["energy_j"] == pytest.approx(row["power_w"] * row["time_s"], rel=1e-4)


def test_a_simulated_calibration_says_so_wherever_it_is_shown(tmp_path):
    shapes = [f"--shape={m}x{n}x{k}" for m in (64, 512, 4096) for n, k in ((512, 512), (4096, 1024))]
    words = ("run", "--simulate", "h100", *shapes, "--effort", "fast", "-o", "run.jsonl")
    assert flopwatt(*words, cwd=tmp_path).returncode == 0
    done = flopwatt("calibrate", "run.jsonl", "-o", "cal.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "NVIDIA H100 80GB HBM3 (simulated): errors on (N, K) sites held out" in done.stdout
    content = json.loads((tmp_path / "cal.json").read_text())
    assert (content["origin"], content["sources"][0]["file"]) == ("simulated", "run.jsonl")
    assert content["state"]["regime"] == "sustained"
    assert "(simulated)" in flopwatt("predict", "cal.json", "--shape", "512x512x512", cwd=tmp_path).stdout


def test_garbage_is_refused_and_nothing_is_written(tmp_path):
    rng = np.random.default_rng(0)
    made = points(24)
    nonsense = replace(made, time_s=made.time_s * np.exp(rng.normal(0, 3, len(made))))
    run = write(tmp_path / "run.jsonl", nonsense)
    done = flopwatt("calibrate", run, "-o", tmp_path / "cal.json")
    assert done.returncode == 1
    assert "a plain roofline is" in done.stderr
    assert "not written" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "cal.json").exists()


def test_a_gpu_whose_name_is_hostile_is_shown_harmless(calibration, tmp_path):
    content = json.loads(calibration.read_text())
    content["gpu"] = "\x1b[31mred [bold]bold[/bold]"
    path = tmp_path / "hostile.json"
    path.write_text(json.dumps(content))
    done = flopwatt("predict", path, "--shape", "256x256x256")
    assert "\x1b" not in done.stdout
    assert "[bold]" in done.stdout


def test_the_report_shows_the_residuals(calibration, tmp_path):
    run = calibration.with_name("run.jsonl")
    done = flopwatt("report", run, "--calibration", calibration, "-o", tmp_path / "page.html", "--png", tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.html").read_text()
    assert "Predictions, held against shapes they had not seen" in page
    assert "Made-up 100 (imported)" in page
    assert {path.stem for path in tmp_path.glob("resid*.png")} == {
        "residuals-time-1", "residual-spread-time-1", "residuals-power-1", "residual-spread-power-1",
        "residual-sites-1",
    }  # fmt: skip
    done = flopwatt("report", run, "--calibration", run, "-o", tmp_path / "page.html")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "not a calibration file" in done.stderr


def test_the_schema_is_printed():
    schema = json.loads(flopwatt("calibrate", "--schema").stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "Fitted" in schema["$defs"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("calibrate", "run.jsonl"), "name it with -o"),
        (("calibrate", "-o", "x.json"), "give run files, or --gpu"),
        (("calibrate", "--gpu", "H9000", "-o", "x.json"), "no published figures"),
        (("predict", "none.json", "--shape", "1x1x1"), "no such file"),
    ],
)
def test_wrong_words_are_one_line(words, said, tmp_path):
    done = flopwatt(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [("a,b\n1,2\n", "no column 'm'"), ("m,n,k\n1,2,x\n", "line 2: k is 'x'"), ("m,n,k\n1,2,-3\n", "line 2"),
     ("m,n,k\n1,2\n", "k is ''")],
)  # fmt: skip
def test_bad_shape_files_name_their_line(calibration, tmp_path, text, said):
    path = tmp_path / "shapes.csv"
    path.write_text(text)
    done = flopwatt("predict", calibration, "--shapes", path)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_a_pipe_a_file_that_is_one_line_and_one_of_too_many_rows_are_one_line(calibration, tmp_path):
    endless, long, many = (tmp_path / name for name in ("endless.csv", "long.csv", "many.csv"))
    os.mkfifo(endless)
    long.write_text("m,n,k\n" + "1" * (2**20 + 1))
    many.write_text("m,n,k\n" + "1,1,1\n" * 500_001)
    for path, said in ((endless, "not a regular file"), (long, "a line of over"), (many, "more than 500,000 rows")):
        done = flopwatt("predict", calibration, "--shapes", path)
        assert (done.returncode, said in done.stderr, done.stderr.count("\n")) == (2, True, 1), done.stderr


def test_a_table_of_many_rows_is_cut_and_says_so(calibration, tmp_path):
    path = tmp_path / "shapes.csv"
    path.write_text("m,n,k\n" + "64,64,64\n" * 1_003)
    done = flopwatt("predict", calibration, "--shapes", path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("64×64×64") == 1_000
    assert "3 more rows: --format csv or json has them all" in done.stdout
