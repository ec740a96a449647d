#!/usr/bin/env python3
"""./run bench [CASE...]: measures cases beside their peers and says what the goals are and what was reached.

Without a CASE all are measured with little effort, about ten minutes on two cores; --full measures long. Writes
bench/results/NAME.json and NAME.svg: `quick` or `full`, or the names of the cases.
"""

import argparse
import os
import pathlib
import shlex
import sys
import time
from datetime import datetime, timezone

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
# pylint: disable=wrong-import-position
from harness import cases, compare, curves, kernels, machine, results, svg
from harness.measure import FULL, QUICK, Bench, measure
from harness.processes import ROOT, BenchmarkError, shown

RESULTS = ROOT / "bench" / "results"


def every_name():
    return [case.name for case in cases.CASES] + list(curves.CURVES) + [kernels.NAME]


def parse(arguments):
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="*", help="cases and curves by name; none: all")
    parser.add_argument("--list", action="store_true", help="name the cases and curves, and leave")
    parser.add_argument("--full", action="store_true", help="seven long rounds, slow peers, 20,000 checked replicates")
    parser.add_argument("--no-peers", action="store_true", help="ours alone")
    parser.add_argument("--no-counts", action="store_true", help="no instruction counts")
    parser.add_argument("--compare", metavar="OLD.json",
                        help="flag what takes more instructions a replicate than in OLD.json; exit code 1 if anything")
    parser.add_argument("--with", dest="new", metavar="NEW.json", help="compare this result and measure nothing")
    parser.add_argument("--core", type=int, default=0, help="the core of one-thread cases (default 0)")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release", help="the build folder")
    parser.add_argument("--out", type=pathlib.Path, help="the JSON file; the plot stands beside it")
    options = parser.parse_args(arguments)
    known = every_name()
    for name in options.case:
        if name not in known:
            parser.error(f"no case '{name}' (--list names them)")
    if options.new and not options.compare:
        parser.error("--with needs --compare")
    return options


def show_list():
    for case in cases.CASES:
        print(f"{case.name:27} {case.what}")
        for goal in case.goals:
            text = results.goal_text({"quantity": goal.quantity, "value": goal.value, "peer": goal.peer,
                                      "measured": None, "reached": None})
            print(f"{'':27}   goal {text.split(':')[0]}")
    for name, (what, _) in curves.CURVES.items():
        print(f"{name:27} {what}")
    print(f"{kernels.NAME:27} {kernels.WHAT}")


def run_compare(old_path, new):
    old = results.read(old_path)
    lines, slower = compare.compare(old, new)
    print(f"\nbeside {old_path} (commit {(old['build'].get('commit') or 'unknown')[:10]}):")
    print("\n".join(lines))
    if slower:
        print(f"SLOWER by more than {100 * compare.TOLERANCE:.0f} %: {', '.join(slower)}")
    return 1 if slower else 0


def guarded(name, body):
    """One case or curve; its failure is its result, and the rest goes on."""
    try:
        return body()
    except (BenchmarkError, OSError, KeyError, ValueError, ZeroDivisionError) as error:
        message = str(error) if isinstance(error, BenchmarkError) else f"{type(error).__name__}: {error}"
        print(f"  FAILED: {message}", flush=True)
        return {"error": message}


def main():
    options = parse(sys.argv[1:])
    if options.list:
        show_list()
        return 0
    if options.compare:
        results.read(options.compare)  # a slip in the name shows before minutes of work
    if options.new:
        return run_compare(options.compare, results.read(options.new))

    effort = FULL if options.full else QUICK
    bench = Bench(options.build.absolute(), min(options.core, (os.cpu_count() or 1) - 1), effort,
                  not options.no_peers, not options.no_counts)
    out = options.out or RESULTS / ("+".join(options.case) if options.case else effort.name)
    out = out.with_suffix(".json") if out.suffix != ".json" else out
    start = time.perf_counter()
    result = {
        "format": results.FORMAT,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(["./run", "bench", *sys.argv[1:]]),
        "effort": vars(effort),
        "machine": machine.machine(),
        "build": machine.build(bench.build),
        "ceiling": None,
        "cases": {},
        "curves": {},
    }
    facts = result["machine"]
    print(f"{facts['processor']}, {facts['cores']} cores, load {facts['load_average'][0]:.1f}; commit "
          f"{(result['build']['commit'] or 'unknown')[:10]}; {effort.name} effort, {effort.rounds} rounds")
    if result["build"]["changed_files"]:
        print(f"sources that differ from the commit: {', '.join(result['build']['changed_files'])}")
    found = guarded("ceiling", lambda: machine.ceiling(bench.jobs, bench.core))
    if "error" not in found:
        result["ceiling"] = found
        top = found["multiply_adds_per_second"]
        print("one thread reaches " + ", ".join(f"{v / 1e9:.3g} G/s ({k})" for k, v in top.items())
              + f" multiply-adds of doubles; kernels use {found['chosen']}")

    for name in options.case or every_name():
        print(f"\n{name}", flush=True)
        began = time.perf_counter()
        if name in curves.CURVES:
            kept = result["curves"][name] = guarded(name, lambda n=name: curves.measure(bench, n))
        elif name == kernels.NAME:
            kept = result["kernels"] = guarded(name, lambda: kernels.measure(bench, result["ceiling"]))
        else:
            case = cases.find([name])[0]
            print(f"  {case.what}", flush=True)
            kept = result["cases"][name] = guarded(name, lambda c=case: measure(bench, c, result["ceiling"]))
        kept["took_seconds"] = round(time.perf_counter() - began, 1)
        results.write(out, result)  # an interrupted run keeps what it has
    result["took_seconds"] = round(time.perf_counter() - start, 1)
    result["machine"]["load_average_at_end"] = list(os.getloadavg())
    results.write(out, result)
    plot = out.with_suffix(".svg")
    plot.write_text(svg.plot(result), encoding="utf-8")

    print(f"\n{results.text(result)}\n")
    failed = results.failures(result)
    for line in failed:
        print(f"FAILED: {line}")
    print(f"written: {shown(out.absolute())}, {shown(plot.absolute())} ({result['took_seconds']:.0f} s)")
    slower = run_compare(options.compare, result) if options.compare else 0
    return 1 if failed or slower else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BenchmarkError, ValueError) as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit("bench: interrupted; cases that were done are kept")
