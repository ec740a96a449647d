"""Single operations, by Google Benchmark: runs bench_kernels and keeps its rates."""

import json
import os

from .processes import BenchmarkError, on_core, run
from .results import number

NAME = "kernels"
WHAT = "single operations of the kernels: draws, evaluations, fits"


def measure(bench, ceiling):
    """On the instruction set in use; with full effort on all."""
    program = bench.build / "bench" / "bench_kernels"
    if not os.access(program, os.X_OK):
        why = "bench_kernels was not built: there was no Google Benchmark (Debian: libbenchmark-dev)"
        print(f"  SKIPPED: {why}", flush=True)
        return {"skipped": why}
    quick = bench.effort.name == "quick"
    if quick and ceiling is None:
        raise BenchmarkError("expected to know the instruction set in use, but the ceiling was not measured")
    command = on_core([program, "--benchmark_format=json", f"--benchmark_min_time={0.05 if quick else 0.5}",
                       f"--benchmark_filter={'/' + ceiling['chosen'] + '$' if quick else '.'}"], bench.core)
    found = json.loads(run(command).output)
    known = ("per_second", "each", "evaluations", "each_trip")
    kernels = {one["name"]: {key: one[key] for key in known if key in one} for one in found["benchmarks"]}
    for name, one in kernels.items():
        trip = f", {1e9 * one['each_trip']:.0f} ns a trip" if "each_trip" in one else ""
        print(f"  {name:32} {number(one['per_second']):>8}/s{trip}", flush=True)
    return {"operations": kernels}
