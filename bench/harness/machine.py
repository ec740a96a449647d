"""On what a result was measured: machine, build, and the ceiling of its floating-point units."""

import hashlib
import json
import os
import pathlib
import re
import subprocess

from .processes import ROOT, run

SOURCES = ["CMakeLists.txt", "cmake", "host", "include", "kernels", "bench"]


def _output(*command, folder=ROOT):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout.rstrip()
    except (OSError, subprocess.CalledProcessError):
        return None


def machine():
    """Processor, instruction sets that matter here, cores, memory, kernel, and how busy the machine is now."""
    info = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    fields = dict(reversed([(k.strip(), v.strip()) for k, v in re.findall(r"^([^:\n]+):(.*)$", info, re.M)]))
    flags = fields.get("flags", fields.get("Features", "")).split()
    known = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512dq", "avx512vl", "hypervisor")
    memory = re.search(r"^MemTotal: *(\d+) kB", pathlib.Path("/proc/meminfo").read_text(encoding="utf-8"), re.M)
    return {
        "processor": fields.get("model name", "unknown"),
        "family": fields.get("cpu family"),
        "model": fields.get("model"),
        "megahertz": fields.get("cpu MHz"),
        "flags": [flag for flag in known if flag in flags],
        "cores": os.cpu_count(),
        "memory_kb": int(memory[1]) if memory else None,
        "kernel": f"{os.uname().sysname} {os.uname().release}",
        "load_average": list(os.getloadavg()),
    }


def build(folder):
    """Of a build folder: the checkout's commit, what is changed there, compiler, flags.

    The commit is that of now: build first, then measure.
    """
    cache_file = folder / "CMakeCache.txt"
    cache = {}
    if cache_file.exists():
        cache = dict(re.findall(r"^([\w-]+):\w+=(.*)$", cache_file.read_text(encoding="utf-8"), re.M))
    compiler = cache.get("CMAKE_CXX_COMPILER")
    source = cache.get("CMAKE_HOME_DIRECTORY", ROOT)
    changed = _output("git", "status", "--porcelain", "--", *SOURCES, ":!bench/results", folder=source)
    version = _output(compiler, "--version") if compiler else None
    type_ = cache.get("CMAKE_BUILD_TYPE")
    jobs = folder / "bench" / "bench_jobs"
    return {
        "commit": _output("git", "rev-parse", "HEAD", folder=source),
        "changed_files": None if changed is None else sorted(line[3:] for line in changed.splitlines()),
        "version": _output(str(folder / "batchlmm"), "--version"),
        "program_sha256": hashlib.sha256(jobs.read_bytes()).hexdigest() if jobs.exists() else None,
        "compiler": version.splitlines()[0] if version else None,
        "build_type": type_,
        "flags": " ".join(filter(None, (cache.get("CMAKE_CXX_FLAGS"),
                                        cache.get(f"CMAKE_CXX_FLAGS_{type_.upper()}") if type_ else None))),
        "kernel_flags": _kernel_flags(folder),
        "isas": cache.get("BATCHLMM_ISAS"),
        "cuda": cache.get("BATCHLMM_CUDA"),
    }


def _kernel_flags(folder):
    """How the kernels of the widest instruction set were compiled."""
    try:
        commands = json.loads((folder / "compile_commands.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    lines = [c["command"] for c in commands if c["file"].endswith("kernels/cpu_lanes.cpp")]
    if not lines:
        return None
    return " ".join(word for word in lines[-1].split() if re.match(r"-(O|f|m|std=)", word))


def ceiling(bench_jobs, core):
    """Multiply-adds of doubles per second that one thread reaches, by instruction set; "chosen" is what kernels use."""
    facts = json.loads(run(["taskset", "-c", core, bench_jobs, "ceiling"]).output)
    rates = {one["isa"]: one["multiply_adds_per_second"] for one in facts["isas"]}
    return {"chosen": facts["chosen"], "multiply_adds_per_second": rates}
