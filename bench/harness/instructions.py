"""Instructions of one replicate more, by callgrind.

Counts do not depend on the machine's load: two versions of our own code are told apart by them. Valgrind knows no
AVX-512, so they are those of the AVX2 kernels; bench_jobs collects during its orders only, and the difference of two
orders leaves out what does not grow with the replicates.
"""

import pathlib
import re
import shutil
import tempfile

from .processes import ONE_THREAD, BenchmarkError, Worker, run


def available():
    """None where instructions can be counted; else one line on what is missing."""
    if shutil.which("valgrind") is None:
        return "valgrind is missing (Debian: apt-get install valgrind)"
    return None


def _totals(folder):
    """Instructions of each order, in turn: callgrind writes a file after each, numbered."""
    numbered = []
    for path in pathlib.Path(folder).glob("out.*"):
        text = path.read_text(encoding="utf-8", errors="replace")
        found = re.search(r"^totals: (\d+)", text, re.M)
        if found and "order" in text[:2000]:
            numbered.append((int(path.suffix[1:]), int(found[1])))
    return [total for _, total in sorted(numbered)]


def count(command, few, many, timeout):
    """@param command  a job of bench_jobs that reads orders
    @return {"per_replicate", "fixed", "counts", "kernels", "by"}
    """
    with tempfile.TemporaryDirectory() as folder:
        under = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/out",
                 f"--log-file={folder}/log", *command]
        with Worker("callgrind", under, {**ONE_THREAD, "BATCHLMM_ISA": "avx2"}, timeout) as worker:
            for replicates in (few, many):
                worker.order(f"{replicates} 0 1", timeout)
        totals = _totals(folder)
    if len(totals) < 2:
        raise BenchmarkError("expected two counts of callgrind, found "
                             f"{len(totals)} (was bench_jobs built with valgrind/callgrind.h?)")
    per_replicate = (totals[1] - totals[0]) / (many - few)
    return {"per_replicate": per_replicate, "fixed": totals[0] - few * per_replicate, "counts": {
        str(few): totals[0], str(many): totals[1]}, "kernels": "avx2",
            "by": run(["valgrind", "--version"]).output.strip()}
