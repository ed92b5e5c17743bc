"""A calibration file that is damaged, foreign or hostile gets one line; its schema holds; none of it is run."""

import json
from importlib.resources import files

import jsonschema
import msgspec
import numpy as np
import pytest

from flopwatt.analysis.calibrate.files import load_calibration, save
from flopwatt.analysis.calibrate.records import CalibrationFile, json_schema
from flopwatt.analysis.calibrate.residual import lender
from flopwatt.errors import CalibrationError


@pytest.fixture(scope="module")
def content(calibration):
    return json.loads(msgspec.json.encode(calibration.file))


def load(tmp_path, content):
    path = tmp_path / "cal.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return load_calibration(path)


def changed(content, where, value):
    copy = json.loads(json.dumps(content))
    *steps, last = where
    place = copy
    for step in steps:
        place = place[step]
    place[last] = value
    return copy


TIME = ("fitted", 0, "time")
GROWTH = ("fitted", 0, "growth")
TREE = (*TIME, "residual", "trees", "trees", 0)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("fitted",), []),
        (("kind",), "guess"),
        (("fitted", 0, "dtype"), "bf17"),
        (("fitted", 0, "core"), [0.0]),
        (("fitted", 0, "core", 0), 1e9),
        (("fitted", 0, "chip", "sm_count"), 0),
        (("fitted", 0, "chip", "flop_per_s"), -1.0),
        (("fitted", 0, "chip", "bytes_per_s"), 1e-300),
        (("fitted", 0, "core", 7), -70.0),
        (("fitted", 0, "measured_s", 0), -1.0),
        (("fitted", 0, "measured_s"), []),
        (("fitted", 0, "domain", "layouts"), ["xx"]),
        (("fitted", 0, "sustained_flop_per_s"), 0.0),
        ((*TIME, "interval", "quantile"), -1.0),
        ((*TREE, "left", 0), 0),
        ((*TREE, "feature", 0), 10_000),
        ((*TREE, "value", 0), 1e300),
        ((*TREE, "threshold", 0), None),
        ((*TIME, "residual", "process", "length", 0), 0.0),
        ((*TIME, "residual", "process", "length", 0), 1e-300),
        ((*TIME, "residual", "process", "points"), [[0.0] * 5] * 1001),
        ((*TIME, "residual", "process", "weight"), [1.0]),
        ((*TIME, "residual", "process", "points", 0), [1.0]),
        (("fitted", 0, "limit_w"), None),
        (("fitted", 0, "layouts", 0), "xx"),
        (("fitted", 0, "layouts"), ["nt"]),
        (("fitted", 0, "shapes", 0, 1), 0),
        (("fitted", 0, "measured_w", 0), -1.0),
        (("fitted", 0, "held_out_w"), [400.0]),
        (("fitted", 0, "held_out_w"), []),
        (("fitted", 0, "errors_time", "by_size", 0, "size_gflop"), 3.0),
        (("fitted", 0, "errors_power", "by_site", 0, "n"), None),
        ((*GROWTH, "m"), []),
        ((*GROWTH, "n", 0), 100_000_000),
        ((*GROWTH, "log_s", "nt", 0), 1e9),
        ((*GROWTH, "log_s", "nt"), [0.0]),
        ((*GROWTH, "log_s", "tt"), []),
        ((*GROWTH, "reversal"), [0.1]),
        ((*GROWTH, "reversal", 0), -0.1),
        (("sources",), [{}]),
        (("identity", "boards"), "x"),
        (("state", "temp_c"), 40.0),
        (("origin",), "guessed"),
    ],
)
def test_damage_is_one_line(tmp_path, content, where, value):
    assert load(tmp_path, content).dtypes == ("bf16",)
    with pytest.raises(CalibrationError, match=r"cal\.json: damaged") as caught:
        load(tmp_path, changed(content, where, value))
    assert "\n" not in str(caught.value)


def test_columns_that_do_not_match_the_number_of_priors_are_damage(tmp_path, content, fitted):
    lent = msgspec.to_builtins(lender("sibling", fitted).transfer)
    with pytest.raises(CalibrationError, match="a Gaussian process whose arrays do not fit together"):
        load(tmp_path, changed(content, (*TIME, "residual", "transfers"), [lent]))
    with pytest.raises(CalibrationError, match="parameters of the core"):
        load(tmp_path, changed(content, ("fitted", 0, "core"), content["fitted"][0]["core"][:-1]))
    short = changed(content, (*TIME, "residual", "process"), None)
    short = changed(short, (*TIME, "residual", "transfers"), [{**lent, "core": lent["core"][:-1]}])
    with pytest.raises(CalibrationError, match="parameters of the core"):
        load(tmp_path, short)


def test_a_residual_beyond_all_bounds_gives_no_infinity(tmp_path, content):
    wild = changed(content, (*TIME, "residual", "process", "weight", 0), 1e15)
    found = load(tmp_path, wild).predict([64, 4096], 64, 64)
    assert np.isfinite([found.time_s, found.time_s_low, found.time_s_high]).all()


FOREIGN = (
    "", "{}", "[]", "null", '{"format": 3}', "[" * 100_000, "\x00\xff", '{"format": "x", "schema": 1}',
)  # fmt: skip


@pytest.mark.parametrize("text", FOREIGN)
def test_foreign_files_are_one_line(tmp_path, text):
    with pytest.raises(CalibrationError, match="not a calibration file") as caught:
        load(tmp_path, text)
    assert len(str(caught.value)) < 400


def test_numbers_that_json_has_not_are_damage(tmp_path, content):
    text = json.dumps(changed(content, ("fitted", 0, "core", 0), float("nan")))
    with pytest.raises(CalibrationError, match="damaged"):
        load(tmp_path, text)


def test_a_newer_schema_is_refused(tmp_path, content):
    with pytest.raises(CalibrationError, match="schema 2 is newer"):
        load(tmp_path, content | {"schema": 2})


def test_a_cut_file_and_a_missing_one(tmp_path, content):
    with pytest.raises(CalibrationError, match="damaged"):
        load(tmp_path, json.dumps(content)[:-20])
    with pytest.raises(CalibrationError, match="no such file"):
        load_calibration(tmp_path / "none.json")


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path, content):
    file = msgspec.convert(content, CalibrationFile)
    with pytest.raises(CalibrationError, match="choose another -o"):
        save(file, tmp_path / "no" / "cal.json")
    assert not list(tmp_path.iterdir())


def test_the_schema_accepts_what_is_written_and_names_every_field(content):
    schema = json_schema()
    described = schema["$defs"]["CalibrationFile"]["properties"]
    assert set(content) <= set(described)
    assert set(content["fitted"][0]) <= set(schema["$defs"]["Fitted"]["properties"])
    assert described["format"] == {"enum": ["flopwatt-calibration"], "default": "flopwatt-calibration"}


def test_the_published_schema_is_the_one_in_force_and_accepts_a_file(content):
    published = json.loads((files("flopwatt.analysis.calibrate") / "calibration.schema.json").read_text())
    assert published == json.loads(msgspec.json.encode(json_schema()))
    jsonschema.Draft202012Validator(published).validate(content)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(published).validate(changed(content, ("fitted", 0, "chip", "sm_count"), 0))
