#!/usr/bin/env python3
"""Start to result of one fit: `batchlmm fit` beside R with lme4, whole processes, in turn.

    bench/peers/fit_start.py [--runs 50] [--peer-runs 5] [--program build/release/batchlmm]

Both read politeness.csv, fit frequency ~ attitude + gender + (1 | subject) + (1 | scenario) by REML and print the
summary. Files are in the page cache (one run of each goes before); no core is set aside, as for a user. CPU seconds
stand beside: they grow less when the machine has other work.
"""

import argparse
import re

from measurement import (DEFAULT_PROGRAM, POLITENESS, RESULTS, ROOT, BenchmarkError, build, checked_program, machine,
                         main, missing_r_packages, readable, run, spread, write_result)

NAME = "fit_start"
FORMULA = "frequency ~ attitude + gender + (1|subject) + (1|scenario)"
GOAL = 0.050
R_CODE = 'library(lme4); print(summary(lmer(%s, read.csv("%s", stringsAsFactors = TRUE))))'


def our_command(program):
    return [program, "fit", FORMULA, POLITENESS]


def r_command(table):
    return ["Rscript", "--vanilla", "-e", R_CODE % (FORMULA, table)]


def fixed_effects(output):
    """The table of fixed effects as printed: name, estimate, standard error, t."""
    rows = re.findall(r"^(\S+) +(-?\d+\.\d+) +(\d+\.\d+) +(-?\d+\.\d+)$", output, re.M)
    if len(rows) != 3:
        raise BenchmarkError(f"expected a summary with 3 fixed effects, found {len(rows)}")
    return rows


def body():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default=DEFAULT_PROGRAM, help="default: build/release/batchlmm")
    parser.add_argument("--runs", type=int, default=50, help="of batchlmm")
    parser.add_argument("--peer-runs", type=int, default=5, help="of R; 0 leaves it out")
    parser.add_argument("--out", default=RESULTS / f"{NAME}.json")
    options = parser.parse_args()
    if options.runs < 1 or options.peer_runs < 0:
        raise BenchmarkError("expected at least one run of batchlmm and no negative number of R's")
    program = checked_program(options.program)
    state = machine()
    missing = missing_r_packages("lme4") if options.peer_runs else "not asked for"
    if missing:
        print(f"{NAME}: R with lme4 SKIPPED: {missing}")

    ours, theirs = [], []
    summary = fixed_effects(run(our_command(program)).output)
    if not missing:
        printed = fixed_effects(run(r_command(POLITENESS)).output)
        if printed != summary:
            raise BenchmarkError(f"the two print different fits: {summary} here, {printed} by lme4")
    peer_runs = 0 if missing else options.peer_runs
    for number in range(options.runs):
        if number * peer_runs // options.runs == len(theirs) and len(theirs) < peer_runs:
            theirs.append(run(r_command(POLITENESS)))
        ours.append(run(our_command(program)))

    result = {}
    print(f"start to result of one fit, politeness data, {state['processor']}, load {state['load_average'][0]:.1f}\n")
    print("                          wall-clock, ms                CPU, ms")
    print("            runs     min    median       max     min    median       max")
    for name, runs in (("batchlmm", ours), ("R, lme4", theirs)):
        if not runs:
            continue
        wall, cpu = spread([one.seconds for one in runs]), spread([one.cpu_seconds for one in runs])
        result[name] = {"seconds": wall, "cpu_seconds": cpu, "runs": [[one.seconds, one.cpu_seconds] for one in runs]}
        print(f"{name:11} {len(runs):4}" + "".join(f"{1e3 * v:{w}.1f}" for s in (wall, cpu)
                                                    for v, w in zip(s.values(), (8, 10, 10))))
    ratio = result["R, lme4"]["seconds"]["median"] / result["batchlmm"]["seconds"]["median"] if theirs else None
    if ratio:
        print(f"\nratio of medians: {ratio:.1f}")
    median = result["batchlmm"]["seconds"]["median"]
    print(f"goal under {1e3 * GOAL:.0f} ms (median): {'reached' if median < GOAL else 'MISSED'}")
    write_result(options.out, {
        "benchmark": NAME,
        "command": readable([ROOT / "bench" / "peers" / f"{NAME}.py", "--runs", options.runs, "--peer-runs",
                             options.peer_runs]),
        "commands": {"batchlmm": readable(our_command(DEFAULT_PROGRAM)),
                     "R, lme4": readable(r_command("tests/data/politeness.csv"))},
        "machine": state,
        "build": build(program),
        "goal": {"seconds": GOAL, "of": "median of wall-clock seconds", "reached": median < GOAL},
        "ratio_of_medians": ratio,
        "results": result,
    })


main(body, NAME)
