#!/usr/bin/env python3
"""What Satterthwaite's and Kenward and Roger's tests of every coefficient cost in every replicate, beside its fit.

    bench/small_sample.py [--build build/release] [--replicates N] [--peers]

Refits by REML on one thread; `to fits` is the tests' time over that of drawing and fitting, each the least of seven
rounds in which they take turns (the order "tests" of bench_jobs). With --peers, lmerTest's and pbkrtest's milliseconds
of one fit's table."""

import argparse
import json
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from harness import cases, designs  # noqa: E402
from harness.processes import ONE_THREAD, ROOT  # noqa: E402

# Name, table, formula, factors, tier, replicates.
CASES = (
    ("politeness", "politeness", cases.POLITENESS[1], "", "auto", 40_000),
    ("politeness, streaming", "politeness", cases.POLITENESS[1], "", "streaming", 20_000),
    ("politeness, slopes", "politeness", cases.SLOPES[1], "", "streaming", 1000),
    ("sleepstudy", "sleepstudy", cases.SLEEP[0], "Subject", "auto", 40_000),
    ("sleepstudy, rows missing", "sleepstudy_missing", cases.SLEEP[0], "Subject", "auto", 20_000),
    ("machines, nested", "machines", "score ~ Machine + (1|Worker/Machine)", "Worker", "auto", 40_000),
    ("50 x 20 x 2, maximal", "subjects_items", cases.MAXIMAL[1], "", "auto", 10_000),
)


def ours(build, table, formula, factors, tier, replicates):
    command = [build / "bench" / "bench_jobs", "refit", formula, table, "--reml", "--tier", tier]
    if factors:
        command += ["--factor", factors]
    answer = subprocess.run(command, input=f"tests {replicates} 0\n", capture_output=True, text=True, check=True,
                            env={**os.environ, **ONE_THREAD})
    facts, tests = (json.loads(line) for line in answer.stdout.splitlines())
    return facts, tests


def peer(tests, table, formula, factors):
    """Milliseconds of one table, by lmerTest; `fit`: of one refit."""
    worker = ROOT / "bench" / "peers" / "worker.R"
    command = ["Rscript", "--vanilla", worker, "small_sample", table, factors or "-", formula]
    n = 20
    answer = subprocess.run(command, input=f"{n} 1\n{n} 2\n", capture_output=True, text=True, check=True,
                            env={**os.environ, **ONE_THREAD, "PEER_TESTS": tests})
    return 1e3 * min(json.loads(line)["cpu_seconds"] for line in answer.stdout.splitlines()[1:]) / n


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release")
    parser.add_argument("--replicates", type=int)
    parser.add_argument("--peers", action="store_true")
    arguments = parser.parse_args()
    for name, table, formula, factors, tier, replicates in CASES:
        path = designs.table(table)
        facts, tests = ours(arguments.build, path, formula, factors, tier, arguments.replicates or replicates)
        print(f"{name} ({facts['tier']}, {facts['isa']}, {tests['coefficients']} coefficients): fit "
              f"{tests['fits_ns']:.0f} ns, Satterthwaite {tests['satterthwaite_ns']:.0f} ns "
              f"({tests['satterthwaite_to_fits']:.2f} to fits), Kenward-Roger {tests['kenward_roger_ns']:.0f} ns "
              f"({tests['kenward_roger_to_fits']:.2f} to fits)", flush=True)
        if arguments.peers:
            times = {tests: peer(tests, path, formula, factors) for tests in ("fit", "Satterthwaite", "Kenward-Roger")}
            print("    R: " + ", ".join(f"{what} {time:.2f} ms" for what, time in times.items()), flush=True)


if __name__ == "__main__":
    main()
