"""What the peer benchmarks share: running a program and timing it, and saying on what machine that was.

Only Python's standard library. Times are wall-clock and CPU seconds (user + system) of one process from its start to
its end, without a shell in between.
"""

import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime, timezone

ROOT = pathlib.Path(__file__).resolve().parents[2]
POLITENESS = ROOT / "tests" / "data" / "politeness.csv"
RESULTS = ROOT / "bench" / "results"
DEFAULT_PROGRAM = ROOT / "build" / "release" / "batchlmm"

# One core means one: R's BLAS and OpenMP would otherwise start threads of their own.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class BenchmarkError(Exception):
    """One line: what was expected, what was found, where."""


@dataclass
class Run:
    """One process: wall-clock and CPU seconds, and what it wrote to standard output."""

    seconds: float
    cpu_seconds: float
    output: str


def run(command, environment=None):
    """Runs `command` (a list of strings) to its end and times it.

    The output goes to a file: a pipe would make the program wait for its reader.
    """
    command = [str(word) for word in command]
    path = shutil.which(command[0])
    if path is None:
        raise BenchmarkError(f"cannot run {command[0]}: not found")
    with tempfile.TemporaryFile() as out:
        actions = [(os.POSIX_SPAWN_DUP2, out.fileno(), 1)]
        start = time.perf_counter()
        process = os.posix_spawn(path, command, {**os.environ, **(environment or {})}, file_actions=actions)
        try:
            _, status, usage = os.wait4(process, 0)
        except BaseException:
            os.kill(process, signal.SIGTERM)
            os.wait4(process, 0)
            raise
        seconds = time.perf_counter() - start
        out.seek(0)
        output = out.read().decode()
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        raise BenchmarkError(f"expected exit code 0, found {code}: {' '.join(command)}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, output)


def spread(values):
    """Smallest, median and largest of `values`."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def missing_r_packages(*packages):
    """None when Rscript and the R packages are there; else one line that says what is missing."""
    debian = " ".join(f"r-cran-{package.lower()}" for package in packages)
    if shutil.which("Rscript") is None:
        return f"Rscript is missing (Debian: apt-get install {debian})"
    code = 'p <- commandArgs(TRUE); cat(p[!vapply(p, requireNamespace, NA, quietly = TRUE)])'
    found = subprocess.run(["Rscript", "-e", code, *packages], capture_output=True, text=True)
    if found.returncode != 0:
        return f"Rscript does not run: {(found.stderr.strip().splitlines() or ['no message'])[-1]}"
    if found.stdout.strip():
        return f"R has no package {found.stdout.strip()} (Debian: apt-get install {debian})"
    return None


def checked_program(path):
    """The program's absolute path; a BenchmarkError when it is not there."""
    path = pathlib.Path(path).absolute()
    if not os.access(path, os.X_OK) or path.is_dir():
        raise BenchmarkError(f"expected the program batchlmm at {path}, found none (./run --version builds it)")
    return path


def _output(*command, folder=ROOT):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout.rstrip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _first_line(text):
    return text.splitlines()[0] if text else None


def machine():
    """Processor, instruction sets that matter here, cores, kernel, and how busy the machine is now."""
    info = pathlib.Path("/proc/cpuinfo").read_text()
    fields = dict(reversed([(k.strip(), v.strip()) for k, v in re.findall(r"^([^:\n]+):(.*)$", info, re.M)]))
    flags = fields.get("flags", fields.get("Features", "")).split()
    known = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512dq", "avx512vl", "hypervisor")
    return {
        "processor": fields.get("model name", "unknown"),
        "family": fields.get("cpu family"),
        "model": fields.get("model"),
        "megahertz": fields.get("cpu MHz"),
        "flags": [flag for flag in known if flag in flags],
        "cores": os.cpu_count(),
        "kernel": f"{os.uname().sysname} {os.uname().release}",
        "load_average": list(os.getloadavg()),
    }


def build(program):
    """Of the build folder that `program` stands in: the checkout's commit, what is changed there, compiler, build type.

    The commit is that of now: build first, then measure.
    """
    cache_file = program.parent / "CMakeCache.txt"
    cache = {}
    if cache_file.exists():
        cache = dict(re.findall(r"^(\w+):\w+=(.*)$", cache_file.read_text(), re.M))
    compiler = cache.get("CMAKE_CXX_COMPILER")
    folder = cache.get("CMAKE_HOME_DIRECTORY", ROOT)
    sources = ["CMakeLists.txt", "cmake", "host", "include", "kernels"]
    changed = _output("git", "status", "--porcelain", "--", *sources, folder=folder)
    return {
        "commit": _output("git", "rev-parse", "HEAD", folder=folder),
        "changed_files": None if changed is None else sorted(line[3:] for line in changed.splitlines()),
        "version": _output(str(program), "--version"),
        "program_sha256": hashlib.sha256(program.read_bytes()).hexdigest(),
        "compiler": _first_line(_output(compiler, "--version")) if compiler else None,
        "build_type": cache.get("CMAKE_BUILD_TYPE"),
        "cuda": cache.get("BATCHLMM_CUDA"),
    }


def shown(path):
    """`path` as the reader of a result should see it: relative to the repository where it is inside."""
    path = pathlib.Path(path)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def readable(command):
    """The command as one line for a result file; paths inside the repository are relative to it."""
    words = [shown(word) if os.path.isabs(str(word)) else str(word) for word in command]
    return " ".join(f"'{word}'" if re.search(r"[^\w./:=+-]", word) else word for word in words)


def write_result(path, result):
    """Writes `result` as JSON, to a temporary name first."""
    result = {"date": datetime.now(timezone.utc).isoformat(timespec="seconds"), **result}
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    temporary.replace(path)
    print(f"\nwritten: {shown(path.absolute())}")


def main(body, name):
    """Runs `body`; a BenchmarkError becomes one line and exit code 1."""
    try:
        body()
    except BenchmarkError as error:
        sys.exit(f"{name}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted, nothing written")
