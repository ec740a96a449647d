"""Runs the guide (README.md): its files are written, its commands run in turn, and what they print is compared.

A block that starts with `# NAME.toml` is a file; lines after `$` are commands, lines after `>>>` are Python, which runs
where pandas and pyarrow are there; `...` stands for lines that are left out. Times, memory and numbers of threads
are not compared.

    BATCHLMM=build/release/batchlmm python3 bench/studies/guide_test.py
"""

import contextlib
import io
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parents[1] / "tests" / "data"
PROGRAM = os.environ.get("BATCHLMM")
# What differs from run to run and from machine to machine: times, memory, cores.
VARIES = re.compile(r"\d[\d.]* (ms|s|min|h|MiB|GiB|threads?)\b")


def blocks(text):
    """Indented blocks of Markdown, without their indent."""
    found, lines = [], []
    for line in [*text.splitlines(), "end"]:
        if line.startswith("    "):
            lines.append(line[4:])
        elif not line and lines:
            lines.append("")
        else:
            if lines:
                found.append("\n".join(lines).rstrip("\n"))
            lines = []
    return found


def steps(text):
    """What the guide does, in its order: ("file", name, text), ("shell" or "python", command, lines that it prints)."""
    out = []
    for block in blocks(text):
        name = re.match(r"# (\S+\.toml)\n", block)
        if name:
            # The block of a file may go on with commands.
            end = re.search(r"^(?:\$|>>>) ", block, re.M)
            out.append(("file", name[1], block[name.end():end.start() if end else len(block)]))
            block = block[end.start():] if end else ""
        for line in block.splitlines():
            if line.startswith("$ "):
                out.append(("shell", line[2:], []))
            elif line.startswith(">>> "):
                out.append(("python", line[4:], []))
            elif out and out[-1][0] == "shell" and out[-1][1].endswith("\\"):
                out[-1] = ("shell", out[-1][1][:-1] + line.strip(), [])
            elif out and out[-1][0] != "file" and block.startswith(("$ ", ">>> ")):
                out[-1][2].append(line)
    return out


def same(printed, expected):
    """None where every expected line is printed, in order; else the first that is not."""
    rest = [VARIES.sub("V", line.rstrip()) for line in printed.splitlines()]
    for line in expected:
        wanted = VARIES.sub("V", line.rstrip())
        if wanted in ("", "..."):
            continue
        if wanted not in rest:
            return line
        rest = rest[rest.index(wanted) + 1:]
    return None


class Reading(unittest.TestCase):
    def test_steps_are_files_commands_and_what_they_print(self):
        text = ("Text\n\n    # a.toml\n    x = 1\n\n    $ run \\\n        it\n    done (0.2 s)\n\nand\n\n"
                "    >>> print(1)\n    1\n\n    [not.run]\n")

        found = steps(text)

        self.assertEqual(found, [("file", "a.toml", "x = 1\n\n"), ("shell", "run it", ["done (0.2 s)"]),
                                 ("python", "print(1)", ["1", "", "[not.run]"])])

    def test_lines_are_compared_in_order_but_for_times(self):
        self.assertIsNone(same("a\nb (0.3 s)\nc 1 MiB\n", ["a", "...", "b (12 s)", "", "c 9 MiB"]))
        self.assertEqual(same("a\nb\n", ["b", "a"]), "a")
        self.assertEqual(same("a 0.5\n", ["a 0.6"]), "a 0.6")


@unittest.skipUnless(PROGRAM, "BATCHLMM does not name the program")
class Guide(unittest.TestCase):
    def test_every_command_prints_what_the_guide_says(self):
        todo = steps((HERE / "README.md").read_text(encoding="utf-8"))
        self.assertGreaterEqual(len([step for step in todo if step[0] == "shell"]), 8)
        try:
            import pandas  # noqa: F401  pylint: disable=import-outside-toplevel,unused-import
            import pyarrow  # noqa: F401  pylint: disable=import-outside-toplevel,unused-import
            tables = True
        except ImportError:
            tables = False
        path = f"{pathlib.Path(PROGRAM).resolve().parent}{os.pathsep}{os.environ['PATH']}"
        names = {}
        with tempfile.TemporaryDirectory() as folder:
            for file in [*DATA.glob("*.csv"), *HERE.glob("*.toml")]:
                shutil.copy(file, folder)
            for kind, what, expected in todo:
                with self.subTest(kind=kind, what=what):
                    if kind == "file":
                        pathlib.Path(folder, what).write_text(expected, encoding="utf-8")
                    elif kind == "shell":
                        done = subprocess.run(what, shell=True, cwd=folder, env={**os.environ, "PATH": path}, text=True,
                                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
                        self.assertIsNone(same(done.stdout, expected), done.stdout)
                    elif tables:
                        with contextlib.chdir(folder) if hasattr(contextlib, "chdir") else _chdir(folder):
                            printed = io.StringIO()
                            with contextlib.redirect_stdout(printed):
                                exec(what, names)  # pylint: disable=exec-used
                        self.assertIsNone(same(printed.getvalue(), expected), printed.getvalue())
        if not tables:
            self.skipTest("all but the Python of the guide: there is no pandas with pyarrow")


@contextlib.contextmanager
def _chdir(folder):
    """contextlib.chdir of Python 3.11."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


if __name__ == "__main__":
    unittest.main()
