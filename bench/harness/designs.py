"""The tables of the cases: files of the repository, and designs made from them or simulated, the same every time.

A made table is written once to build/bench/data and read by every program of a case, ours and the peers.
"""

import csv
import hashlib
import math
import random

from .processes import ROOT, shown

DATA = ROOT / "tests" / "data"
SHARED = ROOT.parent / "shared"  # larger published tables, where a checkout has them; a fresh clone simulates them
MADE = ROOT / "build" / "bench" / "data"


def _read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _write(name, header, rows):
    """Rows may be a generator: large tables are never held, since a child's largest memory counts its parent's."""
    MADE.mkdir(parents=True, exist_ok=True)
    path = MADE / f"{name}.csv"
    temporary = path.with_suffix(".part")
    with open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    temporary.replace(path)
    return path


def _copy_rows(name, rows):
    return _write(name, list(rows[0]), [list(row.values()) for row in rows])


def without_some(name, path, share, seed):
    """The table without a share of its rows, chosen at random (by the seed)."""
    rows = _read(path)
    kept = sorted(random.Random(seed).sample(range(len(rows)), round((1 - share) * len(rows))))
    return _copy_rows(name, [rows[i] for i in kept])


def politeness_complete():
    """The utterance without a frequency gets the mean of its subject's others under the same attitude."""
    rows = _read(DATA / "politeness.csv")
    for row in rows:
        if row["frequency"] in ("", "NA"):
            others = [float(r["frequency"]) for r in rows if r["frequency"] not in ("", "NA")
                      and (r["subject"], r["attitude"]) == (row["subject"], row["attitude"])]
            row["frequency"] = f"{sum(others) / len(others):.1f}"
    return _copy_rows("politeness_complete", rows)


def sleepstudy_missing():
    return without_some("sleepstudy_missing", DATA / "sleepstudy.csv", 0.10, 1)


def subjects_items():
    """50 subjects x 20 items x 2 conditions, correlated slopes of the condition in both."""
    draw = random.Random(2)
    subjects = [(draw.gauss(0, 60), draw.gauss(0, 30)) for _ in range(50)]
    items = [(draw.gauss(0, 40), draw.gauss(0, 20)) for _ in range(20)]
    rows = [(f"s{s + 1:02}", f"i{i + 1:02}", c,
             f"{600 + 20 * c + a0 + a1 * c + b0 + b1 * c + draw.gauss(0, 120):.3f}")
            for s, (a0, a1) in enumerate(subjects) for i, (b0, b1) in enumerate(items) for c in (-0.5, 0.5)]
    return _write("subjects_items", ["subject", "item", "condition", "time"], rows)


def matuschek():
    """Matuschek et al. (2017): 50 subjects x 20 items x 2 conditions, random slopes of 40; studies/matuschek2017.toml."""
    draw = random.Random(5)

    def effects():
        first, second = draw.gauss(0, 1), draw.gauss(0, 1)
        return 100 * first, 40 * (0.6 * first + 0.8 * second)

    subjects, items = [effects() for _ in range(50)], [effects() for _ in range(20)]
    rows = [(f"s{s + 1:02}", f"i{i + 1:02}", c,
             f"{2000 + 25 * c + a0 + a1 * c + b0 + b1 * c + draw.gauss(0, 300):.3f}")
            for s, (a0, a1) in enumerate(subjects) for i, (b0, b1) in enumerate(items) for c in (-0.5, 0.5)]
    return _write("matuschek", ["subject", "item", "c", "y"], rows)


def machines():
    """The layout of the machines data (Milliken and Johnson 1984): six workers, three machines, three runs of each."""
    draw = random.Random(3)
    rows = []
    for w in range(6):
        worker = draw.gauss(0, 4.8)
        for m, mean in enumerate((52.4, 60.3, 66.3)):
            both = worker + draw.gauss(0, 3.7)
            rows += [(w + 1, "ABC"[m], f"{mean + both + draw.gauss(0, 0.96):.1f}") for _ in range(3)]
    return _write("machines", ["Worker", "Machine", "score"], rows)


def kb07():
    """Kronmueller and Barr (2007), experiment 2: 56 subjects x 32 items, 2 x 2 x 2 within both, 1789 of 1792 rows.

    Where ../shared has no copy, a design of this layout (Latin square of the eight cells) is simulated. The three
    factors are written as -1 and 1: S (speaker), P (precedent), L (load).
    """
    published = SHARED / "data" / "kb07.csv"
    header = ["subj", "item", "S", "P", "L", "time"]
    if published.exists():
        code = {"new": -1, "old": 1, "break": -1, "maintain": 1, "no": -1, "yes": 1}
        rows = [(f"s{r['subj']}", f"i{r['item']}", code[r["spkr"]], code[r["prec"]], code[r["load"]], r["rt_trunc"])
                for r in _read(published)]
        return _write("kb07", header, rows)
    draw = random.Random(3)
    cells = [(a, b, c) for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]

    def effects(count, intercept, slope):
        return [[draw.gauss(0, intercept)] + [draw.gauss(0, slope) for _ in range(7)] for _ in range(count)]

    subjects, items = effects(56, 300, 60), effects(32, 350, 60)
    fixed = [2180, 67, -333, 79, 22, -18, 27, -20]
    missing = set(draw.sample(range(56 * 32), 3))
    rows = []
    for s, a in enumerate(subjects):
        for i, b in enumerate(items):
            x, y, z = cells[(s + i) % 8]
            if s * 32 + i not in missing:
                terms = (1, x, y, z, x * y, x * z, y * z, x * y * z)
                mean = sum((f + u + v) * t for f, u, v, t in zip(fixed, a, b, terms))
                rows.append((f"s{s + 1}", f"i{i + 1}", x, y, z, f"{mean + draw.gauss(0, 650):.1f}"))
    return _write("kb07", header, rows)


def kb07_missing():
    return without_some("kb07_missing", kb07(), 0.10, 4)


def insteval():
    """Ratings of lectures (lme4's InstEval): 73,421 rows, 2,972 students, 1,128 lecturers, 14 departments.

    Where ../shared has no copy, a crossed design of that size is simulated.
    """
    published = SHARED / "reference" / "insteval.csv"
    header = ["s", "d", "service", "dept", "y"]
    if published.exists():
        with open(published, encoding="utf-8", newline="") as file:
            return _write("insteval", header, (("s" + r["s"], "d" + r["d"], r["service"], "k" + r["dept"], r["y"])
                                               for r in csv.DictReader(file)))
    return _write("insteval", header, _simulated_insteval())


def _simulated_insteval():
    draw = random.Random(5)
    students = [draw.gauss(0, 0.32) for _ in range(2972)]
    lecturers = [draw.gauss(0, 0.51) for _ in range(1128)]
    departments = {(k, v): draw.gauss(0, 0.10) for k in range(14) for v in (0, 1)}
    # A few lecturers are rated by many, most by some; a lecturer is of one department.
    weights = [math.exp(draw.gauss(0, 0.8)) for _ in lecturers]
    for j in range(73_421):
        s = j % len(students) if j < 2 * len(students) else draw.randrange(len(students))
        d = j % len(lecturers) if j < 2 * len(lecturers) else draw.choices(range(len(lecturers)), weights)[0]
        k, v = d % 14, int(draw.random() < 0.43)
        mean = 3.28 - 0.05 * v + students[s] + lecturers[d] + departments[k, v]
        yield f"s{s + 1}", f"d{d + 1}", v, f"k{k + 1}", min(5, max(1, round(mean + draw.gauss(0, 1.18))))


# ------------------------------------------------------------------------------------------------- scaling curves
def days(subjects, rows_each):
    """The layout of sleepstudy at any size: each subject on days 0 to 9, over and over."""
    name = f"days_{subjects}x{rows_each}"
    path = MADE / f"{name}.csv"
    if path.exists():  # a million rows take seconds
        return path
    draw = random.Random(6)

    def rows():
        for s in range(subjects):
            a, b = draw.gauss(250, 25), draw.gauss(10, 6)
            for t in range(rows_each):
                yield f"g{s + 1}", t % 10, f"{a + b * (t % 10) + draw.gauss(0, 25):.2f}"

    return _write(name, ["Subject", "Days", "Reaction"], rows())


def slopes(k):
    """40 subjects, 32 rows each, k - 1 covariates of two levels within subjects: one term with k (k + 1) / 2 thetas."""
    draw = random.Random(7)
    rows = []
    for s in range(40):
        effects = [draw.gauss(0, 0.8) for _ in range(k)]
        for t in range(32):
            x = [1] + [1 if t >> bit & 1 else -1 for bit in range(k - 1)]
            rows.append([f"g{s + 1}", *x[1:], f"{sum(e * v for e, v in zip(effects, x)) + draw.gauss(0, 1):.5f}"])
    return _write(f"slopes_{k}", ["g", *(f"x{bit + 1}" for bit in range(k - 1)), "y"], rows)


FILES = {
    "politeness": DATA / "politeness.csv",
    "sleepstudy": DATA / "sleepstudy.csv",
    "dyestuff": DATA / "dyestuff.csv",
    "penicillin": DATA / "penicillin.csv",
}
MAKERS = {
    "politeness_complete": politeness_complete,
    "sleepstudy_missing": sleepstudy_missing,
    "subjects_items": subjects_items,
    "machines": machines,
    "kb07": kb07,
    "kb07_missing": kb07_missing,
    "insteval": insteval,
    "matuschek": matuschek,
}


def table(name):
    """Path of the table of this name, made where it is not a file."""
    return FILES[name] if name in FILES else MAKERS[name]()


def facts(name, path):
    """What a result says about its table."""
    simulated = ((name.startswith("kb07") and not (SHARED / "data" / "kb07.csv").exists())
                 or (name == "insteval" and not (SHARED / "reference" / "insteval.csv").exists())
                 or name in ("subjects_items", "machines", "matuschek"))
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 16), b""):
            digest.update(block)
    return {"name": name, "file": shown(path), "simulated": simulated, "sha256": digest.hexdigest()}
