#!/usr/bin/env python3
"""What `batchlmm study` takes beside its replicates: a million cells of ten replicates.

    bench/study_scale.py [--build build/release] [--cells N] [--out FILE.json]

Runs studies of many cells on one thread, each with ten replicates a cell, and prints what took time beside drawing,
fitting, testing and adding up replicates: the scheduler (cells set up, shards written; a share of the shards' time) and
the rest of the process (start, cells.parquet, report.html), and the largest resident memory.

`tiny` has 8 rows and one model: next to nothing but overhead. `longitudinal` has 20 subjects at 10 times and two models with
random slopes. `grid` has the designs, models, selections and tests of
Matuschek et al. (2017), at 50 x 20. `replicates` is one cell of `tiny` with as many replicates."""

import argparse
import json
import pathlib
import re
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from harness import machine, results, studies  # noqa: E402
from harness.processes import ONE_THREAD, ROOT, run  # noqa: E402

REPLICATES = 10
TINY = """[study]
seed = 1
replicates = {replicates}
[design]
kind = "crossed"
units = {{ subject = 4 }}
[design.factors.c]
levels = ["A", "B"]
codes = [-0.5, 0.5]
[truth]
formula = "y ~ c + (1 | subject)"
sigma = 1
beta = {{ "(Intercept)" = 0, c = 0.5 }}
random.subject.sd = {{ "(Intercept)" = 1 }}
[models.m]
formula = "y ~ c + (1 | subject)"
[tests.z]
kind = "wald"
model = "m"
contrast = "c"
"""


LONGITUDINAL = """[study]
seed = 1
replicates = {replicates}
[design]
kind = "longitudinal"
units = {{ subject = 20 }}
[design.covariates.time]
values = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
[truth]
formula = "y ~ time + (1 + time | subject)"
sigma = 2
beta = {{ "(Intercept)" = 10, time = 0.2 }}
random.subject.sd = {{ "(Intercept)" = 1, time = 0.3 }}
[models.full]
formula = "y ~ time + (1 + time | subject)"
method = "ML"
[models.null]
formula = "y ~ 1 + (1 + time | subject)"
method = "ML"
[tests.lrt]
kind = "lrt"
full = "full"
null = "null"
"""


def grid(cells, first, second):
    """A grid of about so many cells over two values of the truth."""
    side = max(1, round(cells ** 0.5))
    values = [", ".join(f"{0.5 + i / n:.6f}" for i in range(n)) for n in (side, max(1, cells // side))]
    return f'[grid]\n"{first}" = [{values[0]}]\n"{second}" = [{values[1]}]\n'


def tiny(cells):
    return TINY.format(replicates=REPLICATES) + grid(cells, "truth.sigma", "truth.beta.c")


def longitudinal(cells):
    return LONGITUDINAL.format(replicates=REPLICATES) + grid(cells, "truth.sigma", "truth.beta.time")


def one_cell(cells):
    return TINY.format(replicates=REPLICATES * cells)


def matuschek(cells):
    text = (studies.STUDIES / "matuschek2017.toml").read_text(encoding="utf-8")
    text = re.sub(r"^replicates = \d+", f"replicates = {REPLICATES}", text, count=1, flags=re.M)
    return text[:text.index("[grid]")] + grid(cells, "truth.sigma", "truth.beta.c")


def measure(program, text):
    # In memory where there is such a file system: how fast a disk makes files is another question.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if pathlib.Path("/dev/shm").is_dir() else None) as place:
        file, out = pathlib.Path(place) / "study.toml", pathlib.Path(place) / "out"
        file.write_text(text, encoding="utf-8")
        done = run([program, "study", file, "--out", out, "--threads", "1"], ONE_THREAD)
        manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        sizes = {name: (out / name).stat().st_size for name in ("cells.parquet", "report.html")}
    spent, shards = (manifest["timings"][key] for key in ("replicate_seconds", "shard_seconds"))
    return {"cells": manifest["cells"], "replicates": manifest["replicates"]["used"], "seconds": done.seconds,
            "cpu_seconds": done.cpu_seconds, "replicate_seconds": spent, "shard_seconds": shards,
            "scheduler_share": 1 - spent / shards, "scheduler_us_per_cell": 1e6 * (shards - spent) / manifest["cells"],
            "rest_us_per_cell": 1e6 * (done.seconds - shards) / manifest["cells"], "peak_kb": done.peak_kb, "bytes": sizes}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release")
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench" / "results" / "study_scale.json")
    arguments = parser.parse_args()
    found = {}
    for name, make, cells in (("tiny", tiny, arguments.cells // 100), ("tiny", tiny, arguments.cells),
                              ("longitudinal", longitudinal, arguments.cells),
                              ("replicates", one_cell, arguments.cells), ("grid", matuschek, arguments.cells // 500)):
        one = measure(arguments.build / "batchlmm", make(cells))
        found[f"{name}, {one['cells']:,} cells"] = one
        print(f"{name}: {one['cells']:,} cells, {one['replicates']:,} replicates, {one['seconds']:.2f} s "
              f"({one['cpu_seconds']:.2f} s of CPU): scheduler {100 * one['scheduler_share']:.2g} % of the shards' time, "
              f"{one['scheduler_us_per_cell']:.3g} us a cell; dataset and start {one['rest_us_per_cell']:.3g} us a cell; "
              f"{(one['peak_kb'] or 0) / 1024:.0f} MiB; cells.parquet {one['bytes']['cells.parquet'] / 2**20:.1f} MiB, "
              f"report.html {one['bytes']['report.html'] / 2**20:.2f} MiB", flush=True)
    results.write(arguments.out, {"format": results.FORMAT, "command": "bench/study_scale.py",
                                  "machine": machine.machine(), "build": machine.build(arguments.build),
                                  "cases": found})


if __name__ == "__main__":
    main()
