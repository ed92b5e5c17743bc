"""The table of readers: to have one fuzzed, give it a function in `reading`, its seeds, and a line here."""

from __future__ import annotations

from typing import Final

import mutators
import reading
import seeds
from command_line import command_line
from judging import Reader

JSON_WORDS: Final = (
    '"type":"record"',
    '"measurement":',
    '"kind":"aggregate"',
    "1e308",
    "null",
    "\\u001b[31m",
    "<script>",
)
TOML_WORDS: Final = ("[[", "1e400", "16777216", '"\\u001b"')
CALIBRATION_WORDS: Final = ('"fitted":', "1e308", "null")
CSV_WORDS: Final = ("nan", "1e999", '"', "-1")

READERS: dict[str, Reader] = {
    "run-file": Reader(reading.run_file, seeds.run_files, ".jsonl", JSON_WORDS, 6, mutators.json_lines),
    "compare": Reader(reading.compared, seeds.run_files, ".jsonl", JSON_WORDS, 6, mutators.json_lines),
    "report": Reader(reading.reported, seeds.run_files, ".jsonl", JSON_WORDS, 6, mutators.json_lines),
    "fleet-account": Reader(
        reading.fleet_account, lambda: [seeds.fleet_account()], ".json",
        ('"plans":[', '"gpus":', '"became":"lost"', '"simulated":[1,8]', "1e308", "<script>", "\\u001b[31m"),
        weight=6, mutator=mutators.one_json,
    ),
    "calibrate": Reader(reading.fitted, seeds.run_files, ".jsonl", JSON_WORDS, 1, mutators.json_lines),
    "csv": Reader(
        reading.imported("csv"), lambda: [seeds.TIDY], ".csv", (*CSV_WORDS, "power_w_low"),
        weight=6, mutator=mutators.comma_separated,
    ),
    "cutlass-csv": Reader(
        reading.imported("cutlass-profiler"), lambda: [seeds.CUTLASS], ".csv", (*CSV_WORDS, "f16:row", ":column"),
        weight=6, mutator=mutators.comma_separated,
    ),
    "parquet": Reader(
        reading.imported("aiconfigurator"), seeds.parquet_tables, ".parquet", ("PAR1", "latency", "ARROW:schema"),
        weight=6, mutator=mutators.parquet,
    ),
    "suite": Reader(
        reading.suite, lambda: [seeds.LISTED_SUITE, *seeds.shipped("flopwatt.runs.suites", ".toml")], ".toml",
        (*TOML_WORDS, "[cpu]", "model = ", "count = ", "regimes = "), mutator=mutators.toml,
    ),
    "model": Reader(
        reading.model, lambda: seeds.shipped("flopwatt.runs.suites.models", ".toml"), ".toml",
        (*TOML_WORDS, "num_heads = "), mutator=mutators.toml,
    ),
    "config-json": Reader(
        reading.model, seeds.hugging_face, ".json", ('"model_type":', '"gemma"', '"head_dim":', "null"),
        mutator=mutators.one_json,
    ),
    "scenario": Reader(
        reading.scenario, lambda: seeds.shipped("flopwatt.measurement.simulation.scenarios", ".toml"), ".toml",
        (*TOML_WORDS, "[power]", "inf"), mutator=mutators.toml,
    ),
    "sensor-store": Reader(
        reading.sensor_store, lambda: [seeds.SENSOR], ".json", ('"identity":', "1e999"), mutator=mutators.one_json
    ),
    "calibration": Reader(
        reading.calibration, seeds.calibrations, ".json", CALIBRATION_WORDS, weight=6, mutator=mutators.one_json
    ),
    "cost-calibration": Reader(
        reading.priced, seeds.calibrations, ".json", CALIBRATION_WORDS, weight=2, mutator=mutators.one_json
    ),
    "cost-mixture": Reader(
        reading.mixture, seeds.mixtures, ".json", ('"n_routed_experts":', '"kv_lora_rank":', "16777216", "1e999"),
        weight=2, mutator=mutators.one_json,
    ),
    "claims": Reader(reading.claimed, seeds.run_files, ".jsonl", JSON_WORDS, 2, mutators.json_lines),
    "claims-calibration": Reader(
        reading.claimed, seeds.calibrations, ".json", CALIBRATION_WORDS, weight=2, mutator=mutators.one_json
    ),
    "export": Reader(
        reading.exported, seeds.calibrations, ".json", CALIBRATION_WORDS, weight=2, mutator=mutators.one_json
    ),
    "shapes-csv": Reader(
        reading.predicted_shapes, seeds.predicted_shapes, ".csv", (*CSV_WORDS, "layout", "fp8_e4m3"),
        weight=6, mutator=mutators.comma_separated,
    ),
    "tuning-store": Reader(
        reading.tuning_store, seeds.tuning_store, ".json", ('"entries":', '"config":', "1e308", "null"),
        mutator=mutators.one_json,
    ),
    "results-index": Reader(
        reading.results_index, lambda: [seeds.RESULTS_INDEX], ".toml", (*TOML_WORDS, "[[file]]", "```", "|"),
        mutator=mutators.toml,
    ),
    "command-line": Reader(
        command_line, lambda: seeds.COMMAND_WORDS,
        words=("--suite\n", "--model\n", "--shape\n", "--dtype\n", "--inputs\n", "--seq\n", "--format\n", "--help"),
        weight=2,
    ),
}  # fmt: skip
