"""Running programs: one process to its end, timed; and workers that wait for orders, so that rounds take turns."""

import json
import os
import pathlib
import re
import resource
import select
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parents[2]

# One core means one: R's BLAS and OpenMP would otherwise start threads of their own.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class BenchmarkError(Exception):
    """One line: what was expected, what was found, where."""


def shown(path):
    """`path` as the reader of a result should see it: relative to the repository where it is inside."""
    path = pathlib.Path(path)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def readable(command):
    """The command as one line for a result file; paths inside the repository are relative to it."""
    words = [shown(word) if os.path.isabs(str(word)) else str(word) for word in command]
    return " ".join(f"'{word}'" if re.search(r"[^\w./:=+-]", word) else word for word in words)


def on_core(command, core):
    """The command held to one core, where there is `taskset`; core None: as it is."""
    command = [str(word) for word in command]
    if core is None or shutil.which("taskset") is None:
        return command
    return ["taskset", "-c", str(core), *command]


@dataclass
class Run:
    """One process: wall-clock and CPU seconds, largest resident memory, and what it wrote to standard output.

    The system counts the memory of the process that started it too: None where it was not larger than ours.
    """

    seconds: float
    cpu_seconds: float
    peak_kb: int | None
    output: str


def run(command, environment=None, timeout=None):
    """Runs `command` to its end and times it, without a shell in between.

    The output goes to a file: a pipe would make the program wait for its reader.
    """
    command = [str(word) for word in command]
    path = shutil.which(command[0])
    if path is None:
        raise BenchmarkError(f"cannot run {command[0]}: not found")
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        actions = [(os.POSIX_SPAWN_DUP2, out.fileno(), 1), (os.POSIX_SPAWN_DUP2, err.fileno(), 2)]
        start = time.perf_counter()
        process = os.posix_spawn(path, command, {**os.environ, **(environment or {})}, file_actions=actions)
        try:
            status, usage = _wait(process, None if timeout is None else start + timeout)
        except BaseException:
            os.kill(process, signal.SIGKILL)
            os.wait4(process, 0)
            raise
        seconds = time.perf_counter() - start
        out.seek(0)
        output = out.read().decode()
        err.seek(0)
        errors = err.read().decode(errors="replace")
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        raise BenchmarkError(f"expected exit code 0, found {code}: {readable(command)}: {_last_line(errors)}")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak = usage.ru_maxrss if usage.ru_maxrss > own else None
    return Run(seconds, usage.ru_utime + usage.ru_stime, peak, output)


def _wait(process, deadline):
    while deadline is not None:
        pid, status, usage = os.wait4(process, os.WNOHANG)
        if pid:
            return status, usage
        if time.perf_counter() > deadline:
            raise BenchmarkError("it took longer than its time limit")
        time.sleep(0.02)
    _, status, usage = os.wait4(process, 0)
    return status, usage


def _last_line(text):
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no message"


class Worker:
    """A process that answers each order, a line on its standard input, with a line of JSON.

    Its first line says what it is: `facts`. Times are its own, so that neither its start nor the pipe counts.
    """

    def __init__(self, name, command, environment=None, timeout=300):
        self.name, self.command = name, [str(word) for word in command]
        self._errors = tempfile.TemporaryFile()
        self._buffer = b""
        try:
            self._process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                             stderr=self._errors, env={**os.environ, **(environment or {})})
        except OSError as error:
            raise BenchmarkError(f"{name}: cannot run {self.command[0]}: {error.strerror}") from None
        try:
            self.facts = self._answer(timeout)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends the process: it leaves when its orders end, and is killed where it does not."""
        try:
            self._process.stdin.close()
        except OSError:
            pass  # it ended before it read all
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def order(self, order, timeout=300):
        """The answer to one order; a BenchmarkError where the process ends or takes too long."""
        try:
            self._process.stdin.write(f"{order}\n".encode())
            self._process.stdin.flush()
        except OSError:
            self._fail("it ended")
        return self._answer(timeout)

    def _answer(self, timeout):
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self._process.kill()
                self._process.wait()
                raise BenchmarkError(f"{self.name}: no answer within {timeout:.0f} s")
            read = os.read(self._process.stdout.fileno(), 65536)
            if not read:
                self._fail("it ended")
            self._buffer += read
        line, self._buffer = self._buffer.split(b"\n", 1)
        try:
            return json.loads(line)
        except ValueError:
            self._fail(f"expected a line of JSON, found {line[:80]!r}")

    def _fail(self, what):
        self._process.kill()
        code = self._process.wait()
        self._errors.seek(0)
        message = _last_line(self._errors.read().decode(errors="replace"))
        raise BenchmarkError(f"{self.name}: {what}, exit code {code}: {message}")
