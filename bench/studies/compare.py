#!/usr/bin/env python3
"""Runs studies of this folder and puts the published numbers beside ours.

published/STUDY.json says what was published, and where:

    study      the study file
    sources    name -> citation, url
    rates      cell (values of the grid's keys), test, value, digits (printed after the point), replicates (that it is
               from; none: it is exact), source
    orderings  says, source, lower and higher: each a rate of ours (cell, test) or a value; with "distance" a rate's
               distance from that number. Statements of a paper without numbers.

A rate agrees where the difference is within three Monte-Carlo errors of both and the rounding of the published one.
Writes results/studies.json and studies.md; exit code 1 where a rate or an ordering does not agree, or a study failed.
"""

import argparse
import json
import math
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time
from datetime import datetime, timezone

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))
# pylint: disable=wrong-import-position
from harness import machine
from harness.processes import shown

ERRORS = 3  # Monte-Carlo errors that a difference may have


def limit(value, mcse, published):
    """How far apart a rate of ours and a published one may be."""
    replicates = published.get("replicates")
    p = min(max(value, 1e-4), 1 - 1e-4)  # a rate of 0 or 1 has an error, too
    theirs = p * (1 - p) / replicates if replicates else 0.0
    return ERRORS * math.sqrt(theirs + mcse**2) + 0.5 * 10 ** -published["digits"]


def same(a, b):
    """Values of a grid key: numbers to the last digit but a few, anything else as text."""
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
    return str(a) == str(b)


def find(cells, cell, test):
    """The row of the rejection rate of `test` at the one cell with these values of the grid."""
    found = [row for row in cells if row["estimand"] == "rejection_rate" and row["subject"] == test
             and all(key in row and same(row[key], value) for key, value in cell.items())]
    if len(found) != 1:
        raise ValueError(f"expected one rejection rate of '{test}' at {cell}, found {len(found)}")
    return found[0]


def compare_rate(cells, published):
    row = find(cells, published["cell"], published["test"])
    allowed = limit(row["value"], row["mcse"], published)
    difference = row["value"] - published["value"]
    return {**published, "ours": row["value"], "mcse": row["mcse"], "n": row["n"], "difference": difference,
            "limit": allowed, "agrees": abs(difference) <= allowed}


def side(cells, one):
    if "test" not in one:
        return one["value"], 0.0
    row = find(cells, one["cell"], one["test"])
    value = abs(row["value"] - one["distance"]) if "distance" in one else row["value"]
    return value, row["mcse"]


def compare_ordering(cells, ordering):
    """Agrees, does not, or is open: where the two are closer than three Monte-Carlo errors nothing is said."""
    lower, lower_mcse = side(cells, ordering["lower"])
    higher, higher_mcse = side(cells, ordering["higher"])
    noise = ERRORS * math.hypot(lower_mcse, higher_mcse)
    verdict = None if abs(higher - lower) <= noise else higher > lower
    return {**ordering, "ours_lower": lower, "ours_higher": higher, "noise": noise, "agrees": verdict}


def prepare(study, most, work):
    """The study file to run, and its replicates a cell; a copy with at most `most` where it asks for more."""
    text = (HERE / study).read_text(encoding="utf-8")
    match = re.search(r"^replicates = (\d+)", text, re.M)
    asked = int(match[1])
    if most is None or asked <= most:
        return HERE / study, asked
    if re.search(r"^data = ", text, re.M):
        raise ValueError(f"{study} names a table: run it as it is")
    copy = work / f"{most}-{study}"
    copy.write_text(text[:match.start(1)] + str(most) + text[match.end(1):], encoding="utf-8")
    return copy, most


def read_cells(folder):
    from pyarrow import parquet  # pylint: disable=import-outside-toplevel,import-error
    return parquet.read_table(folder / "cells.parquet").to_pylist()


def run_study(program, published, options):
    file, replicates = prepare(published["study"], options.most, options.work)
    folder = options.work / f"{file.stem}.out"
    command = [str(program), "study", str(file), "--out", str(folder), "--threads", str(options.threads)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ValueError((done.stderr.strip().splitlines() or ["no message"])[-1])
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    cells = read_cells(folder)
    return {
        "study": published["study"], "name": manifest["name"], "seed": manifest["seed"], "replicates": replicates,
        "cells": manifest["cells"], "wall_seconds": round(time.perf_counter() - start, 3),
        "core_seconds": round(manifest["timings"]["shard_seconds"], 3),
        "command": " ".join(shown(word) if os.path.isabs(word) else word for word in command),
        "sources": published["sources"], "notes": published.get("notes", []),
        "rates": [compare_rate(cells, one) for one in published.get("rates", [])],
        "orderings": [compare_ordering(cells, one) for one in published.get("orderings", [])],
    }


# ---------------------------------------------------------------------------------------------------------- as Markdown
def cell_text(cell):
    return ", ".join(f"{key.split('.')[-1]} {value:g}" if isinstance(value, (int, float)) else str(value)
                     for key, value in cell.items())


def verdict_text(agrees):
    return {True: "yes", False: "**no**", None: "open"}[agrees]


def markdown(result):
    lines = ["# Known studies: published and ours", "",
             f"{result['machine']['processor']}, {result['machine']['cores']} cores; commit "
             f"{(result['build']['commit'] or 'unknown')[:10]}; {result['date']}; `{result['command']}`.", "",
             "A rate agrees where the difference is within the limit: three Monte-Carlo errors of both numbers and the "
             "rounding of the published one. Statements without numbers are *open* where the two rates are closer than "
             "three Monte-Carlo errors.", "",
             "| study | replicates a cell | cells | core seconds | rates that agree | statements that agree |",
             "|---|---|---|---|---|---|"]
    for one in result["studies"]:
        if "error" in one:
            lines.append(f"| {one['study']} | failed: {one['error']} | | | | |")
            continue
        rates, orderings = one["rates"], one["orderings"]
        agree = f"{sum(r['agrees'] for r in rates)} of {len(rates)}" if rates else "–"
        hold = f"{sum(o['agrees'] is True for o in orderings)} of {len(orderings)}" if orderings else "–"
        lines.append(f"| [{one['study']}](../studies/{one['study']}) | {one['replicates']:,} | {one['cells']} | "
                     f"{one['core_seconds']:.1f} | {agree} | {hold} |")
    for one in result["studies"]:
        if "error" in one:
            continue
        lines += ["", f"## {one['name']}", ""]
        for name, source in one["sources"].items():
            lines.append(f"- *{name}*: {source['citation']}" + (f" <{source['url']}>" if "url" in source else ""))
        lines += [f"- {note}" for note in one["notes"]]
        if one["rates"]:
            lines += ["", "| cell | test | source | published | ours | difference | limit | agrees |",
                      "|---|---|---|---|---|---|---|---|"]
            for r in one["rates"]:
                lines.append(f"| {cell_text(r['cell'])} | {r['test']} | {r['source']} | {r['value']:g} | "
                             f"{r['ours']:.4f} | {r['difference']:+.4f} | {r['limit']:.4f} | "
                             f"{verdict_text(r['agrees'])} |")
        if one["orderings"]:
            lines += ["", "| statement | source | lower | higher | noise | agrees |", "|---|---|---|---|---|---|"]
            for o in one["orderings"]:
                lines.append(f"| {o['says']} | {o['source']} | {o['ours_lower']:.4f} | {o['ours_higher']:.4f} | "
                             f"{o['noise']:.4f} | {verdict_text(o['agrees'])} |")
    return "\n".join(lines) + "\n"


def parse(arguments):
    known = sorted(path.stem for path in (HERE / "published").glob("*.json"))
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="*", help=f"studies by name; none: all ({', '.join(known)})")
    parser.add_argument("--most", type=int, help="at most so many replicates a cell")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release", help="the build folder")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "build" / "studies",
                        help="where the studies' folders stand; what is complete there is not run again")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench" / "results" / "studies")
    options = parser.parse_args(arguments)
    for name in options.study:
        if name not in known:
            parser.error(f"no published numbers of '{name}' (there are: {', '.join(known)})")
    options.study = options.study or known
    return options


def line(one):
    """What one study came to, for the terminal."""
    if "error" in one:
        return f"FAILED: {one['error']}"
    rates, orderings = one["rates"], one["orderings"]
    return (f"{one['core_seconds']:8.1f} core seconds  {sum(r['agrees'] for r in rates)} of {len(rates)} rates, "
            f"{sum(o['agrees'] is True for o in orderings)} of {len(orderings)} statements agree")


def main(arguments):
    options = parse(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    result = {"date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
              "command": shlex.join(["bench/studies/compare.py", *arguments]),
              "machine": machine.machine(), "build": machine.build(options.build.absolute()), "studies": []}
    failed = False
    for name in options.study:
        published = json.loads((HERE / "published" / f"{name}.json").read_text(encoding="utf-8"))
        try:
            one = run_study(options.build / "batchlmm", published, options)
        except (ValueError, OSError) as error:
            one = {"study": published["study"], "error": str(error)}
        result["studies"].append(one)
        bad = "error" in one or any(r["agrees"] is False for r in one["rates"] + one["orderings"])
        failed = failed or bad
        print(f"{name:24} {line(one)}", flush=True)
    data, page = (options.out.with_suffix(ending).absolute() for ending in (".json", ".md"))
    data.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    page.write_text(markdown(result), encoding="utf-8")
    print(f"written: {shown(data)}, {shown(page)}")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        import pyarrow.parquet  # noqa: F401  pylint: disable=unused-import
    except ImportError:
        python = ROOT / ".venv" / "bin" / "python"  # ./run puts pyarrow there where the system has none
        if not python.exists() or pathlib.Path(sys.prefix) == ROOT / ".venv":
            sys.exit("compare.py: expected the Python package pyarrow, found none")
        os.execv(python, [str(python), *sys.argv])
    sys.exit(main(sys.argv[1:]))
