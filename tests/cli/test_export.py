"""`flopwatt export` as a user starts it."""

import csv
import json

import pytest

from flopwatt_process import flopwatt


@pytest.fixture(scope="module")
def calibration(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "h100.json"
    done = flopwatt("calibrate", "--gpu", "H100-SXM5-80GB", "-o", path)
    assert done.returncode == 0, done.stderr
    return path


def exported(calibration, folder, *words, name="out"):
    done = flopwatt("export", calibration, *words, "-o", name, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("to", "made"),
    [
        ("aiconfigurator", "out/h100_sxm5_80gb.yaml"), ("calculon", "out"), ("genz", "out"), ("csv", "out"),
        ("json", "out"),
    ],
)  # fmt: skip
def test_every_format_is_written_with_its_conditions(calibration, tmp_path, to, made):
    said = exported(calibration, tmp_path, "--to", to, *(("--dtype", "bf16") if to in ("csv", "json") else ()))
    assert (tmp_path / made).is_file()
    beside = tmp_path / ("out/conditions.json" if to == "aiconfigurator" else "out.conditions.json")
    assert f"conditions: {beside.relative_to(tmp_path)}" in said
    found = json.loads(beside.read_text())
    assert (found["to"], found["kind"], found["unvalidated"]) == (to, "kernel", True)
    assert "unvalidated" in said


def test_figures_of_a_simulated_gpu_are_said_to_be(calibration, tmp_path):
    content = json.loads(calibration.read_text())
    (tmp_path / "cal.json").write_text(json.dumps({**content, "origin": "simulated", "unvalidated": False}))
    said = exported(tmp_path / "cal.json", tmp_path, "--to", "csv", "--shape", "64x64x64")
    assert said.startswith("out: kernel figures of NVIDIA H100 80GB HBM3, simulated, for any reader\n")
    assert json.loads((tmp_path / "out.conditions.json").read_text())["origin"] == "simulated"


def test_llm_analysis_is_given_a_whole_model(calibration, tmp_path):
    words = ("--to", "llm-analysis", "--model", "llama-3.1-8b", "--gpus", "64", "--parallel", "tp=2")
    said = exported(calibration, tmp_path, *words)
    assert said.startswith("out: end_to_end figures of ")
    train = json.loads((tmp_path / "out" / "train.json").read_text())
    assert (train["tp_size"], train["tp_size"] * train["pp_size"] * train["dp_size"]) == (2, 64)
    assert json.loads((tmp_path / "out" / "conditions.json").read_text())["kind"] == "end_to_end"


def test_csv_holds_what_predict_prints(calibration, tmp_path):
    shapes = tmp_path / "shapes.csv"
    shapes.write_text("m,n,k\n4096,4096,4096\n128,1024,512\n")
    exported(calibration, tmp_path, "--to", "csv", "--shapes", "shapes.csv")
    printed = flopwatt("predict", calibration, "--shapes", shapes, "--format", "csv").stdout
    assert (tmp_path / "out").read_text() == printed
    exported(calibration, tmp_path, "--to", "json", "--shape", "4096x4096x4096", name="rows.json")
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert f"{row['time_s']}" == next(csv.DictReader(printed.splitlines()))["time_s"]


def test_predictions_are_not_imported_as_measurements(calibration, tmp_path):
    exported(calibration, tmp_path, "--to", "csv", "--shape", "4096x4096x4096", name="p.csv")
    done = flopwatt("import", "csv", "p.csv", "--gpu", "H100-SXM5-80GB", "-o", "x.jsonl", cwd=tmp_path)
    assert done.returncode == 2
    assert "p.csv: predicted, not measured" in done.stderr
    assert not (tmp_path / "x.jsonl").exists()


def test_calculon_takes_the_gemms_of_a_model(calibration, tmp_path):
    words = ("--to", "calculon", "--model", "gpt-3-175b", "--parallel", "tp=8", "--processing-mode", "roofline")
    exported(calibration, tmp_path, *words)
    system = json.loads((tmp_path / "out").read_text())
    assert system["processing_mode"] == "roofline"
    largest = system["matrix"]["bfloat16"]["gflops_efficiency"][0][0]
    assert largest == pytest.approx(2 * 2048 * 12288 * 51200 / 8 / 1e9)  # the LM head, its vocabulary padded


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "excel"), "unknown format 'excel': choose one of aiconfigurator, calculon"),
        (("--to", "llm-analysis"), "llm-analysis takes end_to_end figures, and this calibration's are of kind kernel"),
        (("--to", "genz", "--base", "h100_sxm"), "--base means nothing to --to genz: it is for aiconfigurator"),
        (("--to", "calculon", "--processing-mode", "sum"), "unknown processing mode 'sum'"),
        (("--to", "genz", "--dtype", "tf32"), "GenZ has no tf32"),
        (("--to", "csv", "--dtype", "bf17"), "unknown dtype 'bf17'"),
        (("--to", "csv", "--shape", "1x2"), "1x2"),
        (("--to", "csv", "--seq", "4096"), "give --model"),
        (("--to", "csv", "--model", "gpt-3-175b", "--parallel", "tp=8,pp=2"), "give tp alone"),
        (("--to", "genz", "--model", "gpt-9"), "unknown model 'gpt-9'"),
        (("--to", "llm-analysis", "--model", "gpt-3-175b", "--gpus", "1"), "memory does not fit"),
        (("--to", "llm-analysis", "--model", "gpt-3-175b", "--gpus", "-4"), "--gpus"),
    ],
)  # fmt: skip
def test_wrong_words_are_one_line_and_write_nothing(calibration, tmp_path, words, said):
    done = flopwatt("export", calibration, *words, "-o", "out", cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_foreign_files_and_taken_names_are_one_line(calibration, tmp_path):
    (tmp_path / "foreign.json").write_text("{}")
    (tmp_path / "taken").write_text("mine")
    for words, said in (
        (("foreign.json", "--to", "csv", "-o", "out"), "not a calibration file"),
        (("none.json", "--to", "csv", "-o", "out"), "no such file"),
        ((calibration, "--to", "csv", "-o", "taken"), "taken exists"),
        ((calibration, "--to", "csv", "-o", "none/out"), "the folder none does not exist"),
    ):
        done = flopwatt("export", *words, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert said in done.stderr
    assert (tmp_path / "taken").read_text() == "mine"
