"""A study from start to end, `batchlmm study`, in turns with peers that simulate, fit and test the same cells."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .processes import ONE_THREAD, ROOT, BenchmarkError, on_core, readable, run

STUDIES = ROOT / "bench" / "studies"
MEMORY = "/dev/shm"
READ_CELLS = """
import json, sys
from pyarrow import parquet
rows = parquet.read_table(sys.argv[1]).to_pylist()
print(json.dumps([row for row in rows if row["estimand"] == "rejection_rate"]))
"""


def text(case, replicates, seed):
    """The study file of a case: its grid, so many replicates, this seed, and paths that do not depend on the place."""
    file, grid = case.study
    path = STUDIES / file
    found = path.read_text(encoding="utf-8")
    found = re.sub(r"^\[grid\].*", lambda _: grid, found, count=1, flags=re.M | re.S)
    found = re.sub(r"^replicates = \d+", f"replicates = {replicates}", found, count=1, flags=re.M)
    found = re.sub(r"^seed = \d+", f"seed = {seed}", found, count=1, flags=re.M)
    return re.sub(r'\bdata = "([^"]*)"', lambda m: f'data = "{(path.parent / m[1]).resolve()}"', found)


class Study:
    """Runs of one case's study.

    Their folders are in memory where the system has a place for that: ext4 looks long for an inode where others have
    just deleted a thousand files, and a disk is not what is compared.
    """

    def __init__(self, bench, case):
        self.bench, self.case = bench, case
        self.command = None
        self._place = tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None)
        self._runs = 0

    def close(self):
        self._place.cleanup()

    def order(self, replicates, seed, keep=None):
        """One run of the program: count is the replicates of all cells; seconds are those of the whole process.

        @param keep  a list that gets the rejection rates, where pyarrow is there to read them
        """
        place = Path(self._place.name) / str(self._runs)
        self._runs += 1
        place.mkdir()
        file, out = place / "study.toml", place / "out"
        file.write_text(text(self.case, replicates, seed), encoding="utf-8")
        command = [self.bench.program, "study", file, "--out", out, "--threads", "1"]
        self.command = readable([self.bench.program, "study", self.case.study[0], "--out", "out", "--threads", "1"])
        done = run(on_core(command, self.bench.core), ONE_THREAD)
        manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        if keep is not None:
            keep += rejections(out / "cells.parquet")
        return {"count": manifest["replicates"]["used"], "cells": manifest["cells"], "seconds": done.seconds,
                "cpu_seconds": done.cpu_seconds, "shard_seconds": manifest["timings"]["shard_seconds"],
                "memory": {"peak_kb": done.peak_kb}}


def rejections(path):
    """Rows of rejection rates; none where no Python at hand has pyarrow."""
    for python in (sys.executable, ROOT / ".venv" / "bin" / "python"):
        if not shutil.which(str(python)):
            continue
        done = subprocess.run([str(python), "-c", READ_CELLS, str(path)], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return json.loads(done.stdout)
    return []


def same_rates(ours, rounds, name):
    """Rejection rates of a peer beside ours, test by test; BenchmarkError where they are five errors apart.

    A peer's answers have "rejected_TEST" (a share of its count, over all cells).
    """
    answers = [one[name] for one in rounds if name in one]
    count = sum(answer["count"] for answer in answers)
    found = {}
    for key in answers[0] if answers else ():
        if not key.startswith("rejected_"):
            continue
        test = key.removeprefix("rejected_")
        rows = [row for row in ours if row["subject"] == test]
        if not rows:
            continue
        rate = sum(row["value"] for row in rows) / len(rows)
        theirs = sum(answer[key] for answer in answers) / count
        own = sum(row["n"] for row in rows)
        pooled = (rate * own + theirs * count) / (own + count)
        error = (max(pooled * (1 - pooled), 1e-4) * (1 / own + 1 / count)) ** 0.5
        found[test] = {"ours": rate, "peer": theirs, "replicates": count, "errors_apart": abs(rate - theirs) / error}
        if found[test]["errors_apart"] > 5:
            raise BenchmarkError(f"expected one rejection rate of {test}, found {rate:.4f} here and {theirs:.4f} by "
                                 f"{name}")
    return found
