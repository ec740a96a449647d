#!/usr/bin/env python3
"""bench/device_code.py: what can be known of the GPU's code for the cases without a GPU.

For every case whose fits are recorded as straight-line code (kernels/traced_fit.hpp) it asks bench_jobs for the
operations of a trip and for what the compiler at run time makes of them: registers, spills, on-chip memory, occupancy.
With the evaluations a replicate, counted on the CPU, that gives the rate at which an H100 would be busy with nothing but
the multiply-adds (the floor), to be set beside what is measured on a card. Needs a build with CUDA and NVRTC; writes
bench/results/device_code.json and device_code.md.
"""

import json
import pathlib
import subprocess
import sys
from datetime import datetime, timezone

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
# pylint: disable=wrong-import-position
from harness import cases, designs, machine
from harness.processes import ROOT

RESULTS = ROOT / "bench" / "results"
NAMES = ("politeness", "politeness-streaming", "politeness-complete", "politeness-slopes", "politeness-slopes-complete",
         "sleepstudy", "sleepstudy-missing", "subjects-items", "kb07", "kb07-maximal")
COUNTED = 20_000
# Of one H100 SXM at its boost clock: 132 multiprocessors, 64 double-precision units each.
H100_MULTIPLY_ADDS = 132 * 64 * 1.98e9


def ask(case):
    """The facts of a job, a count of evaluations and the code of its models."""
    count = 200 if case.name == "kb07-maximal" else COUNTED
    command = [str(ROOT / "build" / "release" / "bench" / "bench_jobs"), case.job, *case.formulas,
               str(designs.table(case.table)), "--tier", case.tier]
    if case.factors:
        command += ["--factor", case.factors]
    run = subprocess.run(command, input=f"code\n{count}\n", capture_output=True, text=True, check=False)
    if run.returncode != 0:
        sys.exit(f"bench_jobs failed for {case.name}: {run.stderr.strip()}")
    facts, code, counted = (json.loads(line) for line in run.stdout.splitlines())
    return {"case": case.name, "what": case.what, "tier": facts["tier"], "models": code,
            "evaluations_per_replicate": counted["evaluations_per_replicate"]}


def floor(result):
    """Replicates a second of an H100 that does nothing but the recorded multiply-adds; None where nothing is recorded."""
    if not all(model["recorded"] for model in result["models"]):
        return None
    trip = sum(model["multiply_adds"] for model in result["models"]) / len(result["models"])
    return H100_MULTIPLY_ADDS / (trip * result["evaluations_per_replicate"])


def row(result):
    """One line of the page: the largest of both models, on sm_90."""
    code = [c for model in result["models"] for c in model.get("code", []) if c["capability"] == 90]
    if not code:
        return f"| {result['case']} | {result['tier']} | not recorded: the kernel text runs | | | | | | |"

    def largest(key):
        return max(c[key] for c in code)

    trip = max(model["operations"] for model in result["models"])
    adds = max(model["multiply_adds"] for model in result["models"])
    spills = largest("spill_store_bytes") + largest("spill_load_bytes")
    return (f"| {result['case']} | {result['tier']} | {trip:,} | {adds:,} | {largest('registers')} | {spills} | "
            f"{largest('block_on_chip_bytes') / 1024:.0f} | {min(c['occupancy'] for c in code):.0%} | "
            f"{floor(result):.1e} |")


def main():
    results = [ask(case) for case in cases.find(list(NAMES))]
    facts = {"date": datetime.now(timezone.utc).isoformat(timespec="seconds"), "machine": machine.machine(),
             "h100_multiply_adds_per_second": H100_MULTIPLY_ADDS, "results": results}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "device_code.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    page = ["# Code made for models, as the compiler at run time makes it for sm_90", "",
            f"Written by `python3 bench/device_code.py`, {facts['date']}. No GPU was at hand: registers, spills, on-chip "
            "memory and occupancy are the compiler's, the floor is arithmetic (recorded multiply-adds, evaluations "
            "counted on the CPU, 132 x 64 multiply-adds a cycle at 1.98 GHz), not a measurement.", "",
            "| case | tier | operations a trip | multiply-adds | registers | spilled bytes | KiB on chip a block | "
            "occupancy | floor, replicates/s |",
            "|---|---|---|---|---|---|---|---|---|", *map(row, results), ""]
    (RESULTS / "device_code.md").write_text("\n".join(page), encoding="utf-8")
    print("\n".join(page))


if __name__ == "__main__":
    main()
