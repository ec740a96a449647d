"""Scaling curves: replicates per second along the number of replicates, rows, levels, thetas and threads."""

import os

from . import designs
from .cases import POLITENESS
from .processes import BenchmarkError
from .rounds import calibrate, count_for, rate

DAYS = ("Reaction ~ Days + (Days|Subject)",)


def _note(text):
    print(f"  {text}", flush=True)


def _point(x, answer, facts, **more):
    return {"x": x, "rate": rate(answer), "seconds": answer["seconds"], "count": answer["count"],
            "peak_kb": answer["memory"]["peak_kb"], "tier": facts["tier"], **more}


def replicates(bench):
    """10^2 .. 10^8 replicates of one test: each ten times more until a point would take too long. Memory stays."""
    path = designs.table("politeness")
    points = []
    with bench.worker(bench.job("lrt", path, POLITENESS)) as ours:
        ours.order("1000 0 1")
        for power in range(2, 9):
            count = 10 ** power
            if points and 10 * points[-1]["seconds"] > bench.effort.curve_seconds:
                break
            answer = ours.order(f"{count} 0 1", 60 + 10 * bench.effort.curve_seconds)
            points.append(_point(count, answer, ours.facts))
    return {"x": "replicates", "series": {"politeness, LRT": points}}


def threads(bench):
    """One thread and more, up to the cores."""
    path = designs.table("politeness")
    points = []
    with bench.worker(bench.job("lrt", path, POLITENESS), threads=2) as ours:
        speed = calibrate(lambda n: ours.order(f"{n} 0 1"), 1000, bench.effort.curve_seconds)
        count = count_for(bench.effort.curve_seconds, rate(speed))
        number = 1
        while number <= (os.cpu_count() or 1):
            best = max((ours.order(f"{count * number} 0 {number}") for _ in range(3)), key=rate)
            points.append(_point(number, best, ours.facts))
            number *= 2
    return {"x": "threads", "series": {"politeness, LRT": points}}


def _designs(bench, axis, xs, made, formulas, factors="", kind="refit"):
    """One design a point, by the tier that the engine chooses and by streaming."""
    series = {}
    for tier in ("auto", "streaming"):
        points = []
        for x in xs:
            try:
                command = bench.job(kind, made(x), formulas(x), factors, tier)
                with bench.worker(command) as ours:
                    seconds = bench.effort.curve_seconds / 3
                    count = count_for(seconds, rate(calibrate(lambda n, w=ours: w.order(f"{n} 0 1"), 8, seconds)))
                    best = max((ours.order(f"{count} 0 1") for _ in range(2)), key=rate)
                    points.append(_point(x, best, ours.facts, setup_seconds=sum(ours.facts["setup_seconds"].values())))
            except BenchmarkError as error:
                _note(f"{axis} {x}, {tier}: FAILED: {error}")
                break
        series["chosen tier" if tier == "auto" else tier] = points
    return {"x": axis, "series": series}


def rows(bench):
    """18 subjects with more and more rows each."""
    each = [10, 100, 1000] + ([5600, 55_600] if bench.effort.name == "full" else [])
    return _designs(bench, "rows", [18 * n for n in each], lambda x: designs.days(18, x // 18), lambda x: DAYS)


def levels(bench):
    """More and more subjects with ten rows each."""
    xs = [18, 180, 1800] + ([18_000] if bench.effort.name == "full" else [])
    return _designs(bench, "levels", xs, lambda x: designs.days(x, 10), lambda x: DAYS)


def thetas(bench):
    """One term with more and more correlated slopes: k (k + 1) / 2 thetas."""
    ks = [1, 2, 3, 4, 5] + ([6, 7] if bench.effort.name == "full" else [])
    size = {k * (k + 1) // 2: k for k in ks}

    def formula(x):
        slopes = "".join(f" + x{i + 1}" for i in range(size[x] - 1))
        return (f"y ~ 1{slopes} + (1{slopes}|g)",)

    return _designs(bench, "thetas", list(size), lambda x: designs.slopes(size[x]), formula)


CURVES = {
    "curve-replicates": ("replicates per second by the number of replicates", replicates),
    "curve-threads": ("replicates per second by threads", threads),
    "curve-rows": ("refits per second by rows, 18 levels", rows),
    "curve-levels": ("refits per second by levels, 10 rows each", levels),
    "curve-thetas": ("refits per second by covariance parameters, 40 levels", thetas),
}


def measure(bench, name):
    curve = CURVES[name][1](bench)
    curve["what"] = CURVES[name][0]
    for label, points in curve["series"].items():
        line = ", ".join(f"{p['x']:,}: {p['rate']:,.3g}/s" for p in points)
        _note(f"{label}: {line}")
    return curve
