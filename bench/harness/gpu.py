"""bench/gpu.sh: what is tested and measured on a machine with a CUDA card, within ten minutes.

`pack` makes a folder that such a machine needs nothing beside but a driver and Python 3: stripped programs, the shared
objects that they load, tables. `run` takes the pack, or a build folder on the machine itself. Every part has its own
time limit, and a part that the machine cannot do (no compute-sanitizer, no right to read counters) says so in the
results. Nothing here changes the card's settings.
"""

import argparse
import csv
import datetime
import io
import json
import lzma
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass

from . import cases, designs, machine
from .processes import ROOT, BenchmarkError, Worker, shown

RESULTS = ROOT / "bench" / "results"
PACK = ROOT / "build" / "gpu-pack"
ARCHIVE = "pack.tar.xz"
FORMAT = 1


@dataclass(frozen=True)
class GpuCase:
    """A case of cases.py on a card, and what it must reach there (replicates a second of an H100)."""

    name: str
    goal: float | None = None
    tier: str | None = None  # in place of the case's own


GPU_CASES = (
    GpuCase("politeness", 2e8),
    GpuCase("politeness-streaming"),
    GpuCase("sleepstudy-missing", 1e8),
    GpuCase("politeness-slopes", 1e7),
    GpuCase("kb07", 3e7),
    GpuCase("kb07-missing"),
    GpuCase("kb07-maximal", 5e3),
    GpuCase("insteval-bootstrap", 500),
)
# One billion likelihood-ratio tests, from the program's start to the p-value.
BILLION, BILLION_GOAL = 1_000_000_000, 10.0

# Small orders: a tool that watches every access makes kernels a hundred times slower.
SANITIZED = (("politeness", "streaming", 300), ("politeness", "symmetry", 300), ("politeness-slopes", "streaming", 150),
             ("sleepstudy-missing", "streaming", 300), ("kb07-missing", "streaming", 20), ("kb07", "shared", 40))
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
PROFILED = (("politeness", "symmetry", 200_000), ("politeness", "streaming", 200_000),
            ("sleepstudy-missing", "streaming", 200_000), ("politeness-slopes", "streaming", 50_000))
METRICS = {
    "gpu__time_duration.sum": "nanoseconds",
    "launch__registers_per_thread": "registers",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "occupancy_percent",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": "multiprocessors_percent",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": "memory_percent",
    "smsp__sass_thread_inst_executed_op_dfma_pred_on.sum": "multiply_adds",
    "smsp__inst_executed_op_local_ld.sum": "local_loads",
}


class Unable(Exception):
    """This machine cannot do a part: why, in one line."""


# ---------------------------------------------------------------------------------------------------- running programs
def call(command, timeout, environment=None, folder=None):
    """(exit code, output, errors) of a process; code None where it was ended because its time was up."""
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, errors="replace", cwd=folder, env={**os.environ, **(environment or {})},
                               start_new_session=True)
    try:
        out, err = process.communicate(timeout=max(1.0, timeout))
        return process.returncode, out, err
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        return None, out, err


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


class Clock:
    """The time that is left of all; a part gets its own limit or what is left."""

    def __init__(self, seconds, now=time.monotonic):
        self._now, self._end = now, now() + seconds

    def left(self):
        return self._end - self._now()

    def limit(self, seconds):
        if self.left() < 1:
            raise Unable("no time was left")
        return min(seconds, self.left())


def tool(name):
    """Path of one of the toolkit's programs: on PATH, or in the places where toolkits have them."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    for folder in [None, *(f"{home}/{place}" for home in homes if home for place in ("bin", "compute-sanitizer"))]:
        found = shutil.which(name, path=folder)
        if found:
            return found
    for found in sorted(pathlib.Path("/opt/nvidia").glob(f"*/*/{name}")):
        if os.access(found, os.X_OK):
            return str(found)
    raise Unable(f"{name} was not found")


# ------------------------------------------------------------------------------------------------------- what is parsed
def occupancy(registers, threads=128, shared=0, registers_all=65536, threads_all=2048, shared_all=233472):
    """Warps at work on a multiprocessor of compute capability 9.0, as a share of those that it has room for."""
    warps = threads // 32
    warp_registers = -(-registers * 32 // 256) * 256
    blocks = min(registers_all // (warp_registers * warps), threads_all // threads, 32)
    if shared:
        blocks = min(blocks, shared_all // (shared + 1024))
    return blocks * warps / (threads_all // 32)


def resource_usage(text):
    """Of `cuobjdump --dump-resource-usage`: per architecture and kernel registers, stack, shared and local bytes."""
    found, architecture, kernel = [], None, None
    for line in text.splitlines():
        if match := re.search(r"arch = (sm_\w+)", line):
            architecture = match[1]
        elif match := re.match(r"\s*Function (\S+?):\s*$", line):
            kernel = match[1]
        elif kernel and (match := re.match(r"\s*REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", line)):
            registers, stack, shared, local = map(int, match.groups())
            found.append({"architecture": architecture, "kernel": kernel, "registers": registers, "stack": stack,
                          "shared": shared, "local": local, "occupancy": occupancy(registers, shared=shared)})
            kernel = None
    return found


def gtest_counts(report):
    """(run, failed, skipped, names of the failed) of a report of --gtest_output=json."""
    run, skipped, failed = 0, 0, []
    for suite in report.get("testsuites", []):
        for test in suite.get("testsuite", []):
            run += 1
            skipped += test.get("result") == "SKIPPED"
            if test.get("failures"):
                failed.append(f"{suite['name']}.{test['name']}")
    return run, len(failed), skipped, failed


def skip_reasons(text):
    """What a gtest program said where it skipped tests, each reason once."""
    return sorted(set(re.findall(r": Skipped\n(.*)", text)))


def sanitizer_errors(text):
    """Errors that compute-sanitizer counted (racecheck: hazards); None where it printed no summary."""
    match = re.search(r"ERROR SUMMARY: (\d+) error", text) or re.search(r"RACECHECK SUMMARY: (\d+) hazard", text)
    return int(match[1]) if match else None


def profile(text):
    """Of ncu's raw CSV page: one entry a launch with METRICS by their words."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if start is None:
        raise Unable("ncu printed no table: " + last_line(text))
    launches = {}
    for row in csv.DictReader(io.StringIO("\n".join(lines[start:]))):
        if not row.get("ID") or row.get("Metric Name") not in METRICS:
            continue
        launch = launches.setdefault(row["ID"], {"kernel": row["Kernel Name"]})
        launch[METRICS[row["Metric Name"]]] = float(row["Metric Value"].replace(",", ""))
    return list(launches.values())


def differences(host, device):
    """What two answers of bench_jobs to one order say differently; replicates have the same bits on both."""
    found = []
    for key in ("count", "used", "status", "extreme"):
        if host.get(key) != device.get(key):
            found.append(f"{key}: cpu {host.get(key)}, cuda {device.get(key)}")
    a, b = host.get("mean_statistic"), device.get("mean_statistic")
    if (a is None) != (b is None) or (a is not None and abs(a - b) > 1e-9 * max(1.0, abs(a))):
        found.append(f"mean_statistic: cpu {a}, cuda {b}")
    return found


# ----------------------------------------------------------------------------------------------------------------- pack
PROGRAMS = ("batchlmm", "bench/bench_jobs")
# The system's own: these must be the machine's.
SYSTEMS = re.compile(r"^(ld-linux|libc|libm|libdl|librt|libpthread|linux-vdso)[.-]")


def shared_objects(ldd):
    """Paths of `ldd`'s output that travel."""
    found = {}
    for name, path in re.findall(r"^\s*(\S+) => (/\S+)", ldd, re.M):
        if not SYSTEMS.match(name):
            found[name] = path
    if missing := re.findall(r"^\s*(\S+) => not found", ldd, re.M):
        raise BenchmarkError(f"expected the library {missing[0]}, found none")
    return found


def checked(command, **options):
    result = subprocess.run([str(word) for word in command], text=True, check=False, **options)
    if result.returncode != 0:
        raise BenchmarkError(f"{' '.join(map(str, command))} failed")
    return result.stdout


def build_for_pack(build, architectures):
    """Tests find their data under the folder that they run in."""
    if not (build / "build.ninja").exists() or architectures:
        checked(["cmake", "--preset", "release", "-B", build, "-DBATCHLMM_CUDA=ON", "-DBATCHLMM_TEST_DATA=tests/data",
                 *([f"-DCMAKE_CUDA_ARCHITECTURES={architectures}"] if architectures else [])], cwd=ROOT, stdout=sys.stderr)
    tests = [path.stem for path in sorted((ROOT / "tests").glob("cuda_*_test.cpp")) + [ROOT / "tests/cuda_test.cpp"]]
    checked(["cmake", "--build", build, "--target", "batchlmm_cli", "bench_jobs", *tests], cwd=ROOT, stdout=sys.stderr)
    return tests


def pack(arguments):
    build, out = pathlib.Path(arguments.build).resolve(), pathlib.Path(arguments.out).resolve()
    tests = build_for_pack(build, arguments.architectures)
    cache = (build / "CMakeCache.txt").read_text(encoding="utf-8")
    if "BATCHLMM_TEST_DATA:STRING=tests/data" not in cache:
        raise BenchmarkError(f"expected a build with -DBATCHLMM_TEST_DATA=tests/data in {shown(build)}; choose another --build")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) / "pack"
        (folder / "bin").mkdir(parents=True)
        (folder / "lib").mkdir()
        libraries = {}
        for program in [*PROGRAMS, *(f"tests/{test}" for test in tests)]:
            to = folder / "bin" / pathlib.Path(program).name
            checked(["strip", "-o", to, build / program])
            libraries.update(shared_objects(checked(["ldd", build / program], stdout=subprocess.PIPE)))
        for name, path in libraries.items():
            shutil.copyfile(path, folder / "lib" / name)
            (folder / "lib" / name).chmod(0o755)
        shutil.copytree(ROOT / "tests" / "data", folder / "tests" / "data")
        (folder / "data").mkdir()
        tables = {case.table for case in cases.find([case.name for case in GPU_CASES])}
        for table in sorted(tables):
            shutil.copyfile(designs.table(table), folder / "data" / f"{table}.csv")
        resources = []
        try:
            resources = resource_usage(checked([tool("cuobjdump"), "--dump-resource-usage", build / "bench/bench_jobs"],
                                               stdout=subprocess.PIPE))
        except (Unable, BenchmarkError) as error:
            print(f"bench/gpu.sh: no registers of the kernels: {error}", file=sys.stderr)
        manifest = {"tests": tests, "build": machine.build(build), "resources": resources}
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        # The programs share most of their code: the dictionary must hold more than one of them.
        unfinished = out / f".{ARCHIVE}.part"
        with tarfile.open(unfinished, "w:xz", preset=9) as archive:
            archive.add(folder, arcname=".")
        unfinished.replace(out / ARCHIVE)
    size = (out / ARCHIVE).stat().st_size
    print(f"{shown(out / ARCHIVE)}: {size / 2**20:.1f} MB, {len(tests)} test programs")
    return 0 if size < 50 * 2**20 else 1


# ------------------------------------------------------------------------------------------------------------------ run
class Place:
    """Where programs, tables and libraries are: a pack, unpacked, or a build folder of this checkout."""

    def __init__(self, packed, build, scratch):
        if (packed / ARCHIVE).exists():
            self.folder = scratch / "pack"
            self.folder.mkdir()
            try:
                with tarfile.open(packed / ARCHIVE) as archive:
                    archive.extractall(self.folder)  # our own archive
            except (EOFError, OSError, lzma.LZMAError, tarfile.TarError) as error:
                raise BenchmarkError(f"{shown(packed / ARCHIVE)}: expected a whole pack: {error}") from error
            manifest = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
            self.tests, self.build, self.resources = manifest["tests"], manifest["build"], manifest["resources"]
            self.environment = {"LD_LIBRARY_PATH": os.pathsep.join(
                filter(None, [str(self.folder / "lib"), os.environ.get("LD_LIBRARY_PATH")]))}
            self._program = lambda name: self.folder / "bin" / pathlib.Path(name).name
            self.table = lambda name: self.folder / "data" / f"{name}.csv"
        elif (build / "bench" / "bench_jobs").exists():
            self.folder, self.environment = ROOT, {}
            self.tests = [path.name for path in sorted((build / "tests").glob("cuda_*test")) if os.access(path, os.X_OK)]
            self.build, self.resources = machine.build(build), []
            self._program = lambda name: build / name
            self.table = designs.table
        else:
            raise BenchmarkError(f"expected {shown(packed / ARCHIVE)} (bench/gpu.sh pack) or a build in {shown(build)}, "
                                 "found neither")

    def program(self, name):
        return self._program(name)

    def jobs(self, name, backend, tier=None, replicates=None):
        """The command of bench_jobs for a case."""
        case = cases.find([name])[0]
        command = [self.program("bench/bench_jobs"), case.job, *case.formulas, self.table(case.table), "--tier",
                   tier or case.tier, "--backend", backend]
        if case.factors:
            command += ["--factor", case.factors]
        if replicates is not None:
            command += ["--replicates", replicates]
        return command


def run_tests(place, clock, seconds):
    """The test programs with the label gpu; a skipped test counts as one that was not run."""
    results = []
    for test in place.tests:
        with tempfile.TemporaryDirectory() as temporary:
            report = pathlib.Path(temporary) / "report.json"
            code, out, err = call([place.program(f"tests/{test}"), f"--gtest_output=json:{report}"],
                                  clock.limit(seconds), place.environment, place.folder)
            result = {"test": test, "exit_code": code}
            if report.exists():
                run, failed, skipped, names = gtest_counts(json.loads(report.read_text(encoding="utf-8")))
                result.update(run=run, failed=failed, skipped=skipped, failures=names, why_skipped=skip_reasons(out))
            if code != 0:
                result["failed"] = max(1, result.get("failed", 0))
                result["output"] = (out + err)[-4000:]
            results.append(result)
    return results


def run_sanitizer(place, clock, seconds):
    path = tool("compute-sanitizer")
    results = []
    for name in TOOLS:
        for case, tier, count in SANITIZED:
            result = {"tool": name, "case": case, "tier": tier, "replicates": count}
            try:
                code, out, err = call([path, "--tool", name, "--error-exitcode", 99,
                                       *place.jobs(case, "cuda", tier, count)], clock.limit(seconds), place.environment)
                result["errors"] = sanitizer_errors(out + err)
                if code is None:
                    result["unable"] = f"not done within {seconds:.0f} s"
                elif code != 0:
                    result["failed"] = last_line(err) or last_line(out)
                    result["output"] = (out + err)[-2000:]
            except Unable as why:
                result["unable"] = str(why)
            results.append(result)
    return results


def run_ceiling(place, clock, seconds):
    code, out, err = call([place.program("bench/bench_jobs"), "device"], clock.limit(seconds), place.environment)
    if code != 0:
        raise Unable(last_line(err) or f"exit code {code}")
    return json.loads(out)


def measured_rate(worker, threads, seconds, timeout):
    """Replicates a second of an order that takes about `seconds`."""
    count, answer = 64, None
    worker.order(f"{count} 0 {threads}", timeout)
    deadline = time.monotonic() + timeout
    while True:
        answer = worker.order(f"{count} 0 {threads}", max(1.0, deadline - time.monotonic()))
        took = answer["seconds"]
        if took >= 0.4 * seconds or time.monotonic() + 2 * seconds > deadline or count >= 2**33:
            return answer["count"] / took, answer
        count = int(min(count * 64, max(2 * count, 0.8 * count * seconds / max(took, 1e-6))))


def run_case(place, clock, case, ceiling, cores):
    """Rates on the card and on all cores, and whether both say the same of the same replicates."""
    result = {"goal": case.goal}
    limit = clock.limit(75)
    device_worker = Worker(f"{case.name} on cuda", place.jobs(case.name, "cuda", case.tier), place.environment, limit)
    with device_worker as device, Worker(f"{case.name} on cpu", place.jobs(case.name, "cpu", case.tier),
                                         place.environment, clock.limit(75)) as host:
        result["tier"] = {"cuda": device.facts["tier"], "cpu": host.facts["tier"]}
        rate, answer = measured_rate(device, 1, 3.0, clock.limit(30))
        host_rate, host_answer = measured_rate(host, cores, 3.0, clock.limit(30))
        result.update(rate=rate, cpu_rate=host_rate, ratio=rate / host_rate, cores=cores,
                      evaluations=answer["evaluations_per_replicate"])
        multiply_adds = answer.get("multiply_adds_per_replicate")
        if multiply_adds and ceiling.get("multiply_adds_per_second"):
            result["multiply_adds"] = multiply_adds
            result["share_of_ceiling"] = rate * multiply_adds / ceiling["multiply_adds_per_second"]
        if multiply_adds:
            result["cpu_thread_multiply_adds_per_second"] = host_rate * multiply_adds / cores
            result["device_multiply_adds_per_second"] = rate * multiply_adds
        count = int(min(1_000_000, max(100, 4 * host_rate)))
        if device.facts["tier"] == host.facts["tier"]:
            order = f"{count} 1000000 "
            result["compared"] = count
            result["differences"] = differences(host.order(order + str(cores), clock.limit(40)),
                                                device.order(order + "1", clock.limit(40)))
    return result


def run_cases(place, clock, ceiling, cores):
    results = {}
    for case in GPU_CASES:
        print(f"  {case.name}", file=sys.stderr, flush=True)
        try:
            results[case.name] = run_case(place, clock, case, ceiling, cores)
        except (BenchmarkError, Unable, KeyError) as error:
            results[case.name] = {"goal": case.goal, "error": str(error)}
    return results


def run_billion(place, clock, seconds):
    """The whole program: process start to p-value."""
    case = cases.find(["politeness"])[0]
    start = time.monotonic()
    code, out, err = call([place.program("batchlmm"), "lrt", *case.formulas, place.table(case.table), "--replicates",
                           BILLION, "--backend", "cuda", "--json"], clock.limit(seconds), place.environment)
    took = time.monotonic() - start
    if code is None:
        raise Unable(f"not done within {seconds:.0f} s")
    if code != 0:
        raise Unable(last_line(err) or f"exit code {code}")
    answer = json.loads(out)
    return {"seconds": took, "goal": BILLION_GOAL, "p": answer["p_bootstrap"], "used": answer["used"],
            "tier": answer["tier"]}


def run_profile(place, clock, seconds):
    path = tool("ncu")
    results = []
    for case, tier, count in PROFILED:
        entry = {"case": case, "tier": tier, "replicates": count}
        try:
            # The clock stays as the machine's owner has set it.
            code, out, err = call([path, "--clock-control", "none", "--metrics", ",".join(METRICS), "--csv", "--print-units",
                                   "base", "--launch-count", 6, "--target-processes", "all", *place.jobs(case, "cuda", tier, count)],
                                  clock.limit(seconds), place.environment)
            if code is None:
                raise Unable(f"not done within {seconds:.0f} s")
            if code != 0:
                raise Unable(next((line for line in (out + err).splitlines() if "ERR_" in line), last_line(out + err)))
            entry["launches"] = profile(out)
        except Unable as why:
            entry["unable"] = str(why)
        results.append(entry)
    return results


def guarded(results, name, body):
    """A part that cannot be done says why, and the rest goes on."""
    print(name, file=sys.stderr, flush=True)
    start = time.monotonic()
    try:
        results[name] = {"results": body()}
    except (Unable, BenchmarkError, OSError, ValueError, KeyError) as error:
        results[name] = {"unable": str(error) or type(error).__name__}
    results[name]["seconds"] = round(time.monotonic() - start, 1)
    return results[name].get("results")


def card(place):
    """Facts of the devices; Unable where none can be used."""
    code, out, err = call([place.program("batchlmm"), "devices", "--json"], 60, place.environment)
    if code != 0:
        raise BenchmarkError("batchlmm devices: " + (last_line(err) or f"exit code {code}"))
    facts = json.loads(out)["cuda"]
    if not facts["usable"]:
        raise Unable(facts["why"])
    return facts


def failures(results):
    """What makes the exit code 1, a line each."""
    found = []
    for test in results["tests"].get("results") or []:
        if test.get("failed") or test["exit_code"] != 0:
            found.append(f"{test['test']}: {', '.join(test.get('failures') or ['it did not end well'])}")
    if not results["tests"].get("results"):
        found.append("tests: " + results["tests"].get("unable", "none were run"))
    elif all(test.get("run", 0) == test.get("skipped", 0) for test in results["tests"]["results"]):
        found.append("tests: all were skipped, although there is a card")
    for one in results["sanitizer"].get("results") or []:
        if one.get("failed") or one.get("errors"):
            found.append(f"{one['tool']} of {one['case']} ({one['tier']}): {one.get('errors')} errors {one.get('failed', '')}")
    for name, case in (results["cases"].get("results") or {}).items():
        if case.get("differences"):
            found.append(f"{name}: " + "; ".join(case["differences"]))
    return found


def plan(place, seconds):
    """What `run` does, in order."""
    lines = [f"tests       {test}" for test in place.tests]
    lines += [f"sanitizer   {tool_} {case} ({tier}), {count} replicates" for tool_ in TOOLS for case, tier, count in SANITIZED]
    lines.append("ceiling     bench_jobs device: start, multiply-adds, copies")
    lines += [f"cases       {case.name}: cuda, cpu on {os.cpu_count()} threads, compared" for case in GPU_CASES]
    lines.append(f"billion     batchlmm lrt, politeness, {BILLION} replicates")
    lines += [f"profile     {case} ({tier}), {count} replicates" for case, tier, count in PROFILED]
    return [f"within {seconds} s:", *lines]


def number(value):
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def page(results):
    """The readable page."""
    device = next(device for device in results["device"]["devices"] if device["usable"])
    lines = ["# On a card", "", f"{results['date'][:10]}, {device['name']}, compute capability "
             f"{device['compute_capability']}, driver CUDA {results['device']['driver']}; {results['machine']['cores']} "
             f"cores of {results['machine']['processor']}; commit {(results['build'].get('commit') or 'unknown')[:12]}. "
             "`bench/gpu.sh run`.", ""]
    if found := results["failures"]:
        lines += ["**Failed:**", "", *(f"- {line}" for line in found), ""]
    lines += ["| case | tier | replicates/s, card | goal | all cores | ratio | of the measured FP64 ceiling | compared |",
              "|---|---|---|---|---|---|---|---|"]
    for name, case in (results["cases"].get("results") or {}).items():
        if "error" in case:
            lines.append(f"| {name} | {case['error']} | | {number(case['goal'])} | | | | |")
            continue
        same = "" if "compared" not in case else f"{case['compared']}, " + (
            "the same" if not case["differences"] else "DIFFERENT")
        share = case.get("share_of_ceiling")
        lines.append(f"| {name} | {case['tier']['cuda']} | {case['rate']:.3g} | {number(case['goal'])} | "
                     f"{case['cpu_rate']:.3g} | {case['ratio']:.3g} | {'' if share is None else f'{100 * share:.1f} %'} | {same} |")
    if billion := results["billion"].get("results"):
        lines += ["", f"{BILLION:,} likelihood-ratio tests of politeness, start to p-value: {billion['seconds']:.2f} s "
                  f"(goal {billion['goal']:.0f} s)."]
    if ceiling := results["ceiling"].get("results"):
        lines += ["", f"Measured: {ceiling['multiply_adds_per_second']:.3g} multiply-adds/s in double precision, "
                  f"{ceiling['copy_bytes_per_second'] / 1e9:.0f} GB/s within memory, "
                  f"{ceiling['write_bytes_per_second'] / 1e9:.1f} and {ceiling['read_bytes_per_second'] / 1e9:.1f} GB/s to and "
                  f"from the card, {ceiling['start_seconds']:.2f} s until it has started (`device_start` of "
                  "host/batch/backend.hpp)."]
    rates = [case["device_multiply_adds_per_second"] for case in (results["cases"].get("results") or {}).values()
             if "device_multiply_adds_per_second" in case]
    threads = [case["cpu_thread_multiply_adds_per_second"] for case in (results["cases"].get("results") or {}).values()
               if "cpu_thread_multiply_adds_per_second" in case]
    if rates:
        lines += ["", f"For the table of `--backend auto`: device_rate {min(rates):.2g} to {max(rates):.2g}, a CPU thread "
                  f"{min(threads):.2g} to {max(threads):.2g} multiply-adds/s."]
    lines += ["", "| part | seconds | |", "|---|---|---|"]
    for name in ("tests", "sanitizer", "ceiling", "cases", "billion", "profile"):
        part = results[name]
        text = part.get("unable", "")
        if name == "tests" and "results" in part:
            text = (f"{sum(t.get('run', 0) for t in part['results'])} run, {sum(t.get('failed', 0) for t in part['results'])} "
                    f"failed, {sum(t.get('skipped', 0) for t in part['results'])} skipped")
        if name == "sanitizer" and "results" in part:
            done = [one for one in part["results"] if "unable" not in one]
            text = (f"{len(done)} of {len(part['results'])} done, "
                    f"{sum((one.get('errors') or 0) + ('failed' in one) for one in done)} with errors")
        if name == "profile" and "results" in part:
            text = "; ".join(sorted({one["unable"] for one in part["results"] if "unable" in one}))
        lines.append(f"| {name} | {part['seconds']} | {text} |")
    launches = [(one, launch) for one in results["profile"].get("results") or [] for launch in one.get("launches", [])]
    if launches:
        lines += ["", "| case | kernel | ms | registers | warps at work | multiprocessors | memory | multiply-adds/s |",
                  "|---|---|---|---|---|---|---|---|"]
        for one, launch in launches:
            nanoseconds = launch.get("nanoseconds", 0)
            rate = launch.get("multiply_adds", 0) / (1e-9 * nanoseconds) if nanoseconds else 0
            lines.append(f"| {one['case']} ({one['tier']}) | {launch['kernel'][:60]} | {nanoseconds / 1e6:.3f} | "
                         f"{launch.get('registers', 0):.0f} | {launch.get('occupancy_percent', 0):.0f} % | "
                         f"{launch.get('multiprocessors_percent', 0):.0f} % | {launch.get('memory_percent', 0):.0f} % | {rate:.3g} |")
    kernels = [k for k in results["resources"] if k["architecture"] == "sm_90" and "kernel" in k["kernel"]]
    for test in results["tests"].get("results") or []:
        if test.get("skipped"):
            lines += ["", f"{test['test']}: {test['skipped']} of {test['run']} skipped: "
                      f"{'; '.join(test.get('why_skipped') or ['no reason given'])}"]
    if kernels:
        lines += ["", "| kernel (sm_90) | registers | stack bytes | occupancy at 128 threads |", "|---|---|---|---|"]
        lines += [f"| `{k['kernel'][:90]}` | {k['registers']} | {k['stack']} | {100 * k['occupancy']:.0f} % |"
                  for k in kernels if "batchlmm" in k["kernel"]]
    return "\n".join(lines) + "\n"


def run(arguments):
    clock = Clock(arguments.seconds)
    with tempfile.TemporaryDirectory() as scratch:
        place = Place(pathlib.Path(arguments.pack).resolve(), pathlib.Path(arguments.build).resolve(), pathlib.Path(scratch))
        if arguments.dry_run:
            print("\n".join(plan(place, arguments.seconds)))
            return 0
        device = card(place)
        cores = os.cpu_count()
        results = {"format": FORMAT, "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                   "machine": machine.machine(), "device": device, "build": place.build, "resources": place.resources}
        guarded(results, "tests", lambda: run_tests(place, clock, 150))
        ceiling = guarded(results, "ceiling", lambda: run_ceiling(place, clock, 30)) or {}
        guarded(results, "billion", lambda: run_billion(place, clock, 60))
        guarded(results, "cases", lambda: run_cases(place, clock, ceiling, cores))
        guarded(results, "profile", lambda: run_profile(place, clock, 30))
        guarded(results, "sanitizer", lambda: run_sanitizer(place, clock, 25))
    results["failures"] = failures(results)
    out = pathlib.Path(arguments.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    (out / "gpu.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (out / "gpu.md").write_text(page(results), encoding="utf-8")
    print(page(results))
    return 1 if results["failures"] else 0


def parse(words):
    parser = argparse.ArgumentParser(prog="bench/gpu.sh", description="GPU tests, sanitizer, benchmarks and profile.")
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="programs, libraries and tables for a machine with a card")
    packing.add_argument("--build", default=ROOT / "build" / "gpu", help="build folder (made where it is missing)")
    packing.add_argument("--architectures", help="code for these cards only, as CMake names them: 90-real")
    packing.add_argument("--out", default=PACK)
    running = commands.add_parser("run", help="on a machine with a card")
    running.add_argument("--pack", default=PACK, help="what `pack` made; else --build is taken")
    running.add_argument("--build", default=ROOT / "build" / "release")
    running.add_argument("--out", default=RESULTS, help="folder of gpu.json and gpu.md")
    running.add_argument("--seconds", type=int, default=560, help="of everything together")
    running.add_argument("--dry-run", action="store_true", help="print what would be run")
    return parser.parse_args(words)


def main(words=None):
    arguments = parse(words)
    try:
        return pack(arguments) if arguments.command == "pack" else run(arguments)
    except Unable as why:
        print(f"bench/gpu.sh: no card that can be used: {why}", file=sys.stderr)
    except BenchmarkError as error:
        print(f"bench/gpu.sh: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
