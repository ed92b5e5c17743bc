"""`flopwatt calibrate` and `flopwatt predict` as a user starts them."""

import csv
import io
import json
import sys
from pathlib import Path

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
    assert "held out" in done.stdout
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
    assert "unvalidated" in done.stdout
    assert json.loads(path.read_text())["unvalidated"] is True
    row = json.loads(flopwatt("predict", path, "--shape", "8192x8192x8192", "--format", "json").stdout)[0]
    flop = 2 * 8192**3
    assert row["time_s_low"] <= flop / 750e12 <= row["time_s_high"]
    assert row["time_s_low"] >= flop / 1071e12 * 0.999
    assert row["power_w"] is None


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
