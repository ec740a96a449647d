#!/usr/bin/env python3
"""Replicates per second of the politeness likelihood-ratio test: batchlmm beside pbkrtest's PBmodcomp with lme4.

    bench/peers/politeness_lrt.py [--rounds 7] [--program build/release/batchlmm]

Null:  frequency ~ gender + (1 | subject) + (1 | scenario)
Full:  frequency ~ attitude + gender + (1 | subject) + (1 | scenario)

Both are fitted by maximum likelihood to the 83 utterances with a frequency, and every replicate is drawn and fitted by
both models. Everything runs on one core, the two programs in turn, so that whatever else the machine does falls on
both. R is started once and warmed up before the first round, and only PBmodcomp's own time counts for it; for batchlmm
both the bootstrap's own time (the same span) and that of the whole process count, table and first fits included.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import tempfile

from measurement import (DEFAULT_PROGRAM, ONE_THREAD, POLITENESS, RESULTS, ROOT, BenchmarkError, build,
                         checked_program, machine, main, missing_r_packages, readable, run, shown, spread,
                         write_result)

NAME = "politeness_lrt"
NULL = "frequency ~ gender + (1|subject) + (1|scenario)"
FULL = "frequency ~ attitude + gender + (1|subject) + (1|scenario)"
GOAL = 5000.0
R_SCRIPT = ROOT / "bench" / "peers" / "pbmodcomp.R"


class Peer:
    """One R process on the core, that waits for orders between rounds."""

    def __init__(self, core):
        self.command = ["taskset", "-c", core, "Rscript", "--vanilla", R_SCRIPT, POLITENESS]
        self.process = subprocess.Popen([str(word) for word in self.command], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env={**os.environ, **ONE_THREAD})
        r, lme4, pbkrtest, blas = self._answer(4)
        self.versions = {"R": r, "lme4": lme4, "pbkrtest": pbkrtest, "BLAS": blas}
        rows, statistic = self._answer(2)
        self.rows, self.statistic = int(rows), float(statistic)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()  # R reads to the end of its orders and leaves
        self.process.wait()

    def _answer(self, count):
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            raise BenchmarkError(f"expected an answer of {shown(R_SCRIPT)}, found its end, exit code {code}")
        answer = line.rstrip("\t\n").split("\t")
        if len(answer) != count:
            raise BenchmarkError(f"expected {count} fields from {shown(R_SCRIPT)}, found {line.rstrip()!r}")
        return answer

    def bootstrap(self, replicates, seed):
        self.process.stdin.write(f"{replicates} {seed}\n")
        self.process.stdin.flush()
        count, seconds, cpu_seconds, p_value, positive = self._answer(5)
        if int(count) != replicates:
            raise BenchmarkError(f"PBmodcomp: expected {replicates} replicates, found {count}")
        return {
            "replicates": replicates,
            "seed": seed,
            "seconds": float(seconds),
            "cpu_seconds": float(cpu_seconds),
            "replicates_per_second": replicates / float(seconds),
            "p_value": float(p_value),
            "positive": int(positive),
        }


def our_command(program, core, replicates, seed):
    return ["taskset", "-c", core, program, "lrt", NULL, FULL, POLITENESS, "--replicates", replicates, "--seed", seed,
            "--threads", 1, "--backend", "cpu", "--json"]


def our_bootstrap(program, core, replicates, seed):
    one = run(our_command(program, core, replicates, seed), ONE_THREAD)
    report = json.loads(one.output)
    if report["replicates"] != replicates or report["used"] != replicates:
        raise BenchmarkError(f"batchlmm: expected {replicates} replicates used, found {report['used']}")
    return {
        "replicates": replicates,
        "seed": seed,
        "seconds": report["seconds"],
        "process_seconds": one.seconds,
        "process_cpu_seconds": one.cpu_seconds,
        "replicates_per_second": report["replicates_per_second"],
        "replicates_per_process_second": replicates / one.seconds,
        "p_value": report["p_bootstrap"],
        "statistic": report["statistic"],
    }


def ratios(peer, ours):
    return {
        "bootstrap": ours["replicates_per_second"] / peer["replicates_per_second"],
        "whole_process": ours["replicates_per_process_second"] / peer["replicates_per_second"],
        # CPU seconds do not grow when something else has the core for a while.
        "cpu_time": (ours["replicates"] / ours["process_cpu_seconds"]) / (peer["replicates"] / peer["cpu_seconds"]),
    }


def instructions(program, core, few=2000, many=10000):
    """Instructions of one replicate more, by callgrind; None where valgrind is missing.

    What does not grow with the replicates (libraries, table, first fits, the bootstrap's pilot) cancels in the
    difference of two counts and is given as "fixed". Valgrind knows no AVX-512: the count is that of the AVX2 kernels.
    """
    if shutil.which("valgrind") is None:
        return None
    counts = []
    for replicates in (few, many):
        with tempfile.TemporaryDirectory() as folder:
            log = f"{folder}/log"
            run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", f"--log-file={log}",
                 *our_command(program, core, replicates, 1)[3:]], {**ONE_THREAD, "BATCHLMM_ISA": "avx2"})
            with open(log, encoding="utf-8") as text:
                found = re.search(r"Collected : (\d+)", text.read())
        if found is None:
            raise BenchmarkError("callgrind: expected a line 'Collected : COUNT' in its log, found none")
        counts.append(int(found[1]))
    return {
        "kernels": "avx2",
        "per_replicate": (counts[1] - counts[0]) / (many - few),
        "fixed": counts[0] - few * (counts[1] - counts[0]) / (many - few),
        "by": subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True).stdout.strip(),
    }


def body():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default=DEFAULT_PROGRAM, help="default: build/release/batchlmm")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peer-replicates", type=int, default=300, help="of PBmodcomp in a round")
    parser.add_argument("--replicates", type=int, default=200_000, help="of batchlmm in a round")
    parser.add_argument("--core", type=int, default=0, help="the one core that both run on")
    parser.add_argument("--no-instructions", action="store_true", help="no count of instructions")
    parser.add_argument("--out", default=RESULTS / f"{NAME}.json")
    options = parser.parse_args()
    if min(options.rounds, options.peer_replicates, options.replicates) < 1:
        raise BenchmarkError("expected at least one round and one replicate a round")
    missing = missing_r_packages("lme4", "pbkrtest")
    if missing:
        print(f"{NAME}: SKIPPED: {missing}")
        return
    program = checked_program(options.program)
    state = machine()

    print(f"batchlmm lrt beside PBmodcomp of pbkrtest, politeness data, core {options.core} of {state['processor']}")
    rounds = []
    with Peer(options.core) as peer:
        peer.bootstrap(20, 1)
        first = our_bootstrap(program, options.core, 1000, 1)
        if abs(first["statistic"] - peer.statistic) > 1e-4:
            found = f"{first['statistic']} here, {peer.statistic} by lme4"
            raise BenchmarkError(f"expected one observed statistic, found {found}")
        print(f"the same test: χ² {first['statistic']:.7f} here, {peer.statistic:.7f} by lme4, {peer.rows} rows\n")
        print("         PBmodcomp   batchlmm lrt, replicates/s     ratio of replicates/s")
        print("round replicates/s     bootstrap  whole process    bootstrap  whole process  CPU time")
        for number in range(1, options.rounds + 1):
            theirs = peer.bootstrap(options.peer_replicates, number)
            ours = our_bootstrap(program, options.core, options.replicates, number)
            ratio = ratios(theirs, ours)
            rounds.append({"pbmodcomp": theirs, "batchlmm": ours, "ratio": ratio})
            print(f"{number:5} {theirs['replicates_per_second']:12.1f} {ours['replicates_per_second']:13.0f} "
                  f"{ours['replicates_per_process_second']:14.0f} {ratio['bootstrap']:12.0f} "
                  f"{ratio['whole_process']:14.0f} {ratio['cpu_time']:9.0f}", flush=True)
        versions, r_command = peer.versions, peer.command

    summary = {key: spread([one["ratio"][key] for one in rounds]) for key in ("bootstrap", "whole_process", "cpu_time")}
    speed = {
        "pbmodcomp": spread([one["pbmodcomp"]["replicates_per_second"] for one in rounds]),
        "batchlmm": spread([one["batchlmm"]["replicates_per_second"] for one in rounds]),
    }
    print()
    for key, of in (("bootstrap", "bootstrap"), ("whole_process", "whole process"), ("cpu_time", "CPU time")):
        s = summary[key]
        print(f"ratio, {of:14} min {s['min']:6.0f}   median {s['median']:6.0f}   max {s['max']:6.0f}")
    reached = summary["bootstrap"]["median"] >= GOAL
    print(f"goal {GOAL:.0f} (median, bootstrap): {'reached' if reached else 'MISSED'}")

    count = None if options.no_instructions else instructions(program, options.core)
    if count:
        print(f"instructions per replicate: {count['per_replicate']:.0f} ({count['by']}, {count['kernels']} kernels)")

    write_result(options.out, {
        "benchmark": NAME,
        "command": readable([R_SCRIPT.with_name(f"{NAME}.py"), "--rounds", options.rounds, "--peer-replicates",
                             options.peer_replicates, "--replicates", options.replicates, "--core", options.core]),
        "commands": {
            "batchlmm": readable(our_command(DEFAULT_PROGRAM, options.core, options.replicates, 1)),
            "pbmodcomp": readable(r_command),
        },
        "machine": state,
        "build": build(program),
        "versions": versions,
        "rows": peer.rows,
        "statistic": {"batchlmm": first["statistic"], "lme4": peer.statistic},
        "goal": {"ratio": GOAL, "of": "median of ratio.bootstrap", "reached": reached},
        "replicates_per_second": speed,
        "ratio": summary,
        "instructions": count,
        "rounds": rounds,
    })


main(body, NAME)
