#!/usr/bin/env python3
"""bench/coverage.py: how often bootstrap intervals of each kind cover the truth.

Runs bench_coverage (build/release/bench by default): data sets from two balanced designs with known parameters, each with
one bootstrap of every type and 95 % intervals of every kind. Writes bench/results/coverage.json and coverage.md. Shares
have a binomial Monte-Carlo error; both ends' misses are in the JSON.
"""

import argparse
import json
import pathlib
import subprocess
import time
from datetime import datetime, timezone

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
KINDS = ("percentile", "basic", "normal", "studentized", "bca", "shortest")


def table(results):
    """The Markdown page."""
    sets, replicates = results["sets"], results["replicates"]
    error = (0.95 * 0.05 / sets) ** 0.5
    lines = ["# Coverage of 95 % bootstrap intervals", "",
             f"Written by `python3 bench/coverage.py --sets {sets} --replicates {replicates}`, {results['written']}: "
             f"{sets} data sets a design, {replicates} replicates a data set. A share of 0.95 has a Monte-Carlo error of "
             f"{error:.4f}. `-`: there is no such interval; (n): in n data sets there was none (all replicates on one side "
             "of an estimate of 0, or an end beyond the replicates)."]
    for design in results["designs"]:
        lines += ["", f"## {design['name']}: {design['words']}", "",
                  "| type | quantity | " + " | ".join(KINDS) + " |", "|---" * (len(KINDS) + 2) + "|"]
        for kind in design["types"]:
            name = kind["type"] + ("" if kind["reb_type"] is None else f" {kind['reb_type']}")
            for quantity in kind["quantities"]:
                cells = []
                for interval in KINDS:
                    found = quantity["intervals"][interval]
                    if found["coverage"] is None:
                        cells.append("-")
                    else:
                        missing = f" ({found['missing']})" if found["missing"] else ""
                        cells.append(f"{found['coverage']:.3f}{missing}")
                label = quantity["name"].replace("|", "\\|")
                lines.append(f"| {name} | `{label}` | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--replicates", type=int, default=999)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--program", default=str(ROOT / "build" / "release" / "bench" / "bench_coverage"))
    arguments = parser.parse_args()
    start = time.monotonic()
    run = subprocess.run([arguments.program, "--sets", str(arguments.sets), "--replicates", str(arguments.replicates),
                          "--threads", str(arguments.threads)], check=True, stdout=subprocess.PIPE, text=True)
    results = json.loads(run.stdout)
    results["written"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    results["seconds"] = round(time.monotonic() - start, 1)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "coverage.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "coverage.md").write_text(table(results))
    print(table(results), end="")


if __name__ == "__main__":
    main()
