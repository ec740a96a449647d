"""Measures one case: rounds beside the peers, accuracy, memory, instructions, share of the ceiling."""

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass

from . import designs, instructions, studies
from .processes import ONE_THREAD, ROOT, BenchmarkError, Worker, on_core, readable, run
from .rounds import alternate, calibrate, count_for, rate, rates, ratios, spread

PEERS = ROOT / "bench" / "peers"
PEER_PACKAGES = {
    "pbkrtest": ("lme4", "pbkrtest"),
    "lme4_refit": ("lme4",),
    "lme4_bootmer": ("lme4",),
    "lme4_fit": ("lme4",),
    "lme4_process": ("lme4",),
    "nlme_simulate": ("nlme",),
    "rlrsim": ("lme4", "RLRsim"),
    "matuschek": ("lme4",),
    "simr": ("lme4",),
}
# lme4 stops up to 2e-4 above the optimum (1e-3 where it gives up early): further apart, it is another test.
SAME_TEST = 1e-2
STUDY_ORDERS = 5  # of the seconds of other jobs


@dataclass
class Effort:
    """How long to measure."""

    name: str
    rounds: int
    seconds: float  # one order of ours
    peer_seconds: float  # one of a peer's
    check_seconds: float
    count_timeout: float
    peer_timeout: float
    peer_total: float  # all rounds of one peer: one whose single replicate takes long has fewer
    setup_timeout: float
    curve_seconds: float  # longest point of a curve


QUICK = Effort("quick", 3, 0.6, 1.5, 3.0, 150, 90, 12, 100, 1.5)
FULL = Effort("full", 7, 3.0, 6.0, 600.0, 900, 3600, 1200, 900, 60.0)


class Bench:
    """What all cases share: programs, core, effort."""

    def __init__(self, build, core, effort, with_peers=True, with_counts=True):
        self.build, self.core, self.effort = build, core, effort
        self.jobs = build / "bench" / "bench_jobs"
        self.program = build / "batchlmm"
        self.with_peers, self.with_counts = with_peers, with_counts
        self._missing = {}
        for program in (self.jobs, self.program):
            if not os.access(program, os.X_OK):
                raise BenchmarkError(f"expected the program {program}, found none (./run bench builds it)")

    def job(self, kind, table, formulas, factors="", tier="auto", seed=1):
        command = [self.jobs, kind, *formulas, table, "--seed", seed, "--tier", tier]
        return command + (["--factor", factors] if factors else [])

    def worker(self, command, threads=1):
        core = self.core if threads == 1 else None
        environment = ONE_THREAD if threads == 1 else None
        return Worker("batchlmm", on_core(command, core), environment, self.effort.setup_timeout)

    def missing(self, peer):
        """None when R and the peer's packages are there; else one line that says what is missing."""
        packages = PEER_PACKAGES[peer]
        if packages not in self._missing:
            self._missing[packages] = missing_r_packages(*packages)
        return self._missing[packages]

    def peer_command(self, peer, table, formulas, factors, threads=1):
        command = ["Rscript", "--vanilla", PEERS / "worker.R", peer, table, factors or "-", *formulas]
        return on_core(command, self.core if threads == 1 else None)


def missing_r_packages(*packages):
    """None when Rscript and the R packages are there; else one line that says what is missing."""
    debian = " ".join(f"r-cran-{package.lower()}" for package in packages)
    if shutil.which("Rscript") is None:
        return "Rscript is missing (./run bench --install-peers)"
    code = 'p <- commandArgs(TRUE); cat(p[!vapply(p, requireNamespace, NA, quietly = TRUE)])'
    found = subprocess.run(["Rscript", "-e", code, *packages], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        return f"Rscript does not run: {(found.stderr.strip().splitlines() or ['no message'])[-1]}"
    if found.stdout.strip():
        return f"R has no package {found.stdout.strip()} (./run bench --install-peers, or Debian's {debian})"
    return None


def note(text):
    print(f"  {text}", flush=True)


def measure(bench, case, ceiling):
    """Everything about one case, as the JSON result keeps it; parts that fail say so in "failures"."""
    path = designs.table(case.table)
    result = {
        "what": case.what,
        "job": case.job,
        "formulas": list(case.formulas),
        "table": designs.facts(case.table, path),
        "goals": [{"quantity": g.quantity, "value": g.value, "peer": g.peer} for g in case.goals],
        "notes": list(case.notes),
        "skipped": {},
        "failures": {},
    }
    if case.job == "process":
        _process(bench, case, path, result)
    elif case.job == "study":
        _study(bench, case, path, result)
    else:
        _engine(bench, case, path, result, ceiling)
    judge(case, result)
    return result


# ------------------------------------------------------------------------------------------------------- engine jobs
def _engine(bench, case, path, result, ceiling):
    kind = "lrt" if case.job == "threads" else case.job
    command = bench.job(kind, path, case.formulas, case.factors, case.tier)
    result["command"] = readable(command)
    with bench.worker(command, case.threads) as ours:
        result["facts"] = facts = ours.facts
        _rounds(bench, case, path, result, ours)
        if case.check and kind != "fit":
            _part(result, "accuracy", lambda: _accuracy(bench, case, ours))
    memory = result["rounds"][-1]["batchlmm"]["memory"]
    result["memory"] = {"after_setup_kb": facts["memory"]["peak_kb"],
                        "after_small_kb": result.pop("small_kb"), "peak_kb": memory["peak_kb"]}
    if case.counted and bench.with_counts:
        missing = instructions.available()
        if missing:
            result["skipped"]["instructions"] = missing
            note(f"instructions SKIPPED: {missing}")
        else:
            _part(result, "instructions",
                  lambda: instructions.count(command, *case.counted, bench.effort.count_timeout))
    _part(result, "ceiling", lambda: _share(result, ceiling))


def _part(result, name, body):
    """A part of a case that may fail without the rest."""
    try:
        found = body()
        if found is not None:
            result[name] = found
    except BenchmarkError as error:
        result["failures"][name] = str(error)
        note(f"{name} FAILED: {error}")


def _rounds(bench, case, path, result, ours):
    effort = bench.effort
    slow = case.job == "fit" or case.threads > 1
    first = ours.order(f"1 0 {case.threads}" if slow else "64 0 1")
    speed = calibrate(lambda n: ours.order(f"{n} 0 {case.threads}"), first["count"], effort.seconds)
    count = count_for(effort.seconds, rate(speed))
    result["small_kb"] = ours.order(f"{min(count, first['count'])} 0 {case.threads}")["memory"]["peak_kb"]

    def turn(number, threads=case.threads):
        answer = ours.order(f"{count} {number * count} {threads}")
        if answer.get("used", answer["count"]) != answer["count"]:
            unused = {k: v for k, v in answer["status"].items() if v and k not in ("converged", "boundary")}
            result["failures"]["status"] = f"replicates that do not count: {unused}"
        if case.job == "fit" and not answer["converged"]:
            result["failures"]["status"] = "the fit is not certified"
        return answer

    turns = {"batchlmm": turn}
    workers = []
    try:
        if case.job == "threads":
            turns = {"one": lambda number: turn(number, 1), "batchlmm": lambda number: turn(number, case.threads)}
        for name, worker, first_answer, seconds in _peers(bench, case, path, result, ours.facts):
            workers.append(worker)
            turns[name] = _peer_turn(effort, worker, first_answer, seconds)
        result["rounds"] = _alternate_safely(effort.rounds, turns, result)
    finally:
        for worker in workers:
            worker.close()
    names = [name for name in turns if name in result["rounds"][0]]
    result["rates"] = {name: rates(result["rounds"], name) for name in names}
    result["ratios"] = {name: ratios(result["rounds"], "batchlmm", name) for name in names if name != "batchlmm"}
    line = ", ".join(f"{name} {result['rates'][name]['median']:,.4g}/s" for name in names)
    note(f"{line}, {count:,} replicates an order" if case.job != "fit" else line)
    if case.job == "fit":
        fits = [one["batchlmm"]["parts"]["fit"] / one["batchlmm"]["count"] for one in result["rounds"]]
        result["seconds"] = spread(fits)


def _peer_turn(effort, worker, calibration, each, replicates=0):
    """A peer's turn: as many replicates as take the effort's seconds, in no more rounds than its total allows.

    Where one replicate alone fills the total, the one of the calibration is its only round. With --full a case may say
    how many `replicates` all rounds have.
    """
    size = count_for(effort.peer_seconds, 1 / each)
    if replicates and effort.name == "full":
        size = -(-replicates // effort.rounds)
    allowed = int(effort.peer_total / (size * each))

    def turn(number):
        if number == 1 and allowed < 1:
            return calibration
        return worker.order(f"{size} {number}", effort.peer_timeout) if number <= allowed else None
    return turn


def _alternate_safely(count, turns, result):
    """Rounds in turns; a peer that fails leaves, ours may not."""

    def guarded(name, turn):
        def body(number):
            if name in gone:
                return None
            try:
                return turn(number)
            except BenchmarkError as error:
                if name in ("batchlmm", "one"):
                    raise
                gone.add(name)
                result["failures"][name] = str(error)
                note(f"{name} FAILED: {error}")
                return None
        return body

    gone = set()
    found = alternate(count, {name: guarded(name, turn) for name, turn in turns.items()})
    return [{name: answer for name, answer in one.items() if answer is not None} for one in found]


def _peers(bench, case, path, result, facts):
    """Started and warmed-up peers: name, worker, the answer that told their speed, seconds a replicate."""
    names = list(case.peers)
    if bench.effort.name == "full":
        names += case.slow_peers
    else:
        for name in case.slow_peers:
            _skip(result, name, "minutes a refit: only with --full")
    for name in names:
        why = "not asked for (--no-peers)" if not bench.with_peers else bench.missing(name)
        if why:
            _skip(result, name, why)
            continue
        worker = None
        try:
            command = bench.peer_command(name, path, case.formulas, case.factors, case.threads)
            worker = Worker(name, command, ONE_THREAD if case.threads == 1 else None, bench.effort.peer_timeout)
            _same_test(facts, worker.facts)
            calibration = calibrate(lambda n, w=worker: w.order(f"{n} 1", bench.effort.peer_timeout), 1,
                                    bench.effort.peer_seconds)
        except BenchmarkError as error:
            if worker is not None:
                worker.close()
            result["failures"][name] = str(error)
            note(f"{name} FAILED: {error}")
            continue
        result.setdefault("peers", {})[name] = {**worker.facts, "command": readable(worker.command)}
        yield name, worker, calibration, 1 / rate(calibration)


def _skip(result, name, why):
    result["skipped"][name] = why
    note(f"{name} SKIPPED: {why}")


def _same_test(ours, theirs):
    for key in ("statistic", "criterion"):
        if key in theirs and key in ours and abs(ours[key] - theirs[key]) > SAME_TEST:
            raise BenchmarkError(f"expected one {key}, found {ours[key]:.6f} here and {theirs[key]:.6f} by the peer")


def _accuracy(bench, case, ours):
    """Replicates beside the certified reference, as many as the time allows."""
    seconds = bench.effort.check_seconds
    done, step, found, start = 0, min(8, case.checked), None, time.perf_counter()
    while done < case.checked:
        began = time.perf_counter()
        answer = ours.order(f"check {step} {1_000_000 + done}", 600)
        if "unchecked" in answer:
            note(f"accuracy: {answer['unchecked']}")
            return answer
        done += step
        if found is None:
            found = answer
        else:
            for key in ("checked", "off", "wrong_optimum", "unused"):
                found[key] += answer[key]
            for key in ("largest_excess", "largest_shortfall"):
                found[key] = max(found[key], answer[key])
        each = (time.perf_counter() - began) / step
        left = seconds - (time.perf_counter() - start)
        if left < 8 * each:
            break
        step = max(1, min(case.checked - done, int(left / each / 1.5), 4 * step))
    note(f"accuracy: {found['off']} of {found['checked']:,} off by more than 1e-8, {found['wrong_optimum']} at a wrong "
         f"optimum, {found['unused']} without a certified optimum")
    return found


def _share(result, ceiling):
    """Multiply-adds per second that the replicates need beside what the machine reaches; by the best round."""
    rounds = [one["batchlmm"] for one in result["rounds"]]
    if ceiling is None or "multiply_adds_per_replicate" not in rounds[0]:
        return None
    best = max(rounds, key=rate)
    top = ceiling["multiply_adds_per_second"][ceiling["chosen"]] * best["threads"]
    used = rate(best) * best["multiply_adds_per_replicate"]
    return {"multiply_adds_per_replicate": best["multiply_adds_per_replicate"], "multiply_adds_per_second": used,
            "share": used / top}


# ----------------------------------------------------------------------------------------------------- whole process
R_PROCESS = 'library(lme4); print(summary(lmer(%s, read.csv("%s", stringsAsFactors = TRUE))))'


def _process(bench, case, path, result):
    """Start to end of `batchlmm fit`, beside R with lme4: libraries, table, fit, summary; files in the page cache."""
    commands = {"batchlmm": [bench.program, "fit", case.formulas[0], path]}
    for name in case.peers:
        why = "not asked for (--no-peers)" if not bench.with_peers else bench.missing(name)
        if why:
            _skip(result, name, why)
        else:
            commands[name] = ["Rscript", "--vanilla", "-e", R_PROCESS % (case.formulas[0], path)]
    result["command"] = readable(commands["batchlmm"])
    runs = {"batchlmm": 5}

    def turn(name):
        def body(_):
            all_runs = [run(commands[name]) for _ in range(runs.get(name, 1))]
            # Several short runs a round: the fastest is that of an undisturbed one.
            best = min(all_runs, key=lambda one: one.seconds)
            return {"count": 1, "seconds": best.seconds, "cpu_seconds": best.cpu_seconds,
                    "memory": {"peak_kb": best.peak_kb}, "all_seconds": [one.seconds for one in all_runs]}
        return body

    for name in commands:
        turn(name)(0)
    result["rounds"] = _alternate_safely(bench.effort.rounds, {name: turn(name) for name in commands}, result)
    result["rates"] = {name: rates(result["rounds"], name) for name in commands}
    result["ratios"] = {name: ratios(result["rounds"], "batchlmm", name) for name in commands if name != "batchlmm"}
    result["seconds"] = spread([s for one in result["rounds"] for s in one["batchlmm"]["all_seconds"]])
    result["memory"] = {"peak_kb": result["rounds"][-1]["batchlmm"]["memory"]["peak_kb"]}
    note(f"{1e3 * result['seconds']['median']:.1f} ms (median)")


# ----------------------------------------------------------------------------------------------------------- studies
def _study(bench, case, path, result):
    """`batchlmm study` from start to end on one core, beside peers that simulate, fit and test the same cells."""
    effort = bench.effort
    ours = studies.Study(bench, case)
    # A start costs what some hundred replicates do: orders are long, and their length is that of the work alone.
    kept, workers = [], []
    try:
        speed = calibrate(lambda n: ours.order(n, 1), 256, effort.seconds)
        work = speed["count"] / speed["shard_seconds"]
        count = max(1, count_for(STUDY_ORDERS * effort.seconds, work) // speed["cells"])
        turns = {"batchlmm": lambda number: ours.order(count, number, kept if number == 1 else None)}
        for name, worker, first_answer, seconds in _peers(bench, case, path, result, {}):
            workers.append(worker)
            turns[name] = _peer_turn(effort, worker, first_answer, seconds, case.peer_replicates)
        result["rounds"] = _alternate_safely(effort.rounds, turns, result)
    finally:
        ours.close()
        for worker in workers:
            worker.close()
    result["command"] = ours.command
    names = [name for name in turns if name in result["rounds"][0]]
    result["rates"] = {name: rates(result["rounds"], name) for name in names}
    result["ratios"] = {name: ratios(result["rounds"], "batchlmm", name) for name in names if name != "batchlmm"}
    result["memory"] = {"peak_kb": result["rounds"][-1]["batchlmm"]["memory"]["peak_kb"]}
    if kept:
        for name in result["ratios"]:
            _part(result, f"{name}_rates", lambda n=name: studies.same_rates(kept, result["rounds"], n))
    else:
        _skip(result, "rates", "no Python with pyarrow to read them")
    note(", ".join(f"{name} {result['rates'][name]['median']:,.4g}/s" for name in names)
         + f", {result['rounds'][0]['batchlmm']['count']:,} replicates an order")


# ------------------------------------------------------------------------------------------------------------- goals
def judge(case, result):
    """What was measured for each goal, and whether it reaches it: medians."""
    for goal, kept in zip(case.goals, result["goals"]):
        measured = None
        if goal.quantity == "rate":
            measured = result["rates"]["batchlmm"]["median"]
        elif goal.quantity == "seconds":
            measured = result["seconds"]["median"]
        elif goal.quantity == "threads":
            measured = result["ratios"]["one"]["wall"]["median"]
        elif goal.peer in result["ratios"]:
            measured = result["ratios"][goal.peer]["wall"]["median"]
        kept["measured"] = measured
        kept["reached"] = None if measured is None else goal.reached(measured)
