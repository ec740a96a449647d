"""Results: the JSON file, and the table for people."""

import json
import pathlib

FORMAT = 1


def write(path, result):
    """Writes `result` as JSON, to a temporary name first."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def read(path):
    """A result file of this harness; ValueError with one line where it is not one."""
    try:
        result = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON: {error}") from None
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise ValueError(f"{path}: expected a result of ./run bench (format {FORMAT})")
    return result


def number(value):
    """Three digits: 1,230,000 is 1.23 M."""
    if value is None:
        return "-"
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= 0.9995 * scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.3g}"


def quantity(value, kind):
    """A goal or what was measured for it, with its unit."""
    if value is None:
        return "not measured"
    if kind == "seconds":
        return f"{1e3 * value:.3g} ms" if value < 1 else f"{value:.3g} s"
    if kind == "rate":
        return f"{number(value)}/s"
    return f"{value:,.0f} x" if value >= 100 else f"{value:.3g} x"


def goal_text(goal):
    """"≥ 2 M/s: 2.3 M/s reached"."""
    sign = "≤" if goal["quantity"] == "seconds" else "≥"
    state = {True: "reached", False: "MISSED", None: ""}[goal["reached"]]
    beside = f" {goal['peer']}" if goal["peer"] else ""
    return (f"{sign} {quantity(goal['value'], goal['quantity'])}{beside}: "
            f"{quantity(goal['measured'], goal['quantity'])} {state}").strip()


def _spread(s):
    def one(v):
        return f"{v:,.0f}" if v >= 100 else f"{v:.3g}"
    return f"{one(s['min'])} – {one(s['median'])} – {one(s['max'])}"


def rows(result):
    """The table's cells: one row a case, more rows for its other peers and goals."""
    table = [("case", "tier", "ours /s", "peer", "peer /s", "ratio min – median – max", "goal: measured", "off/checked",
              "instr.", "of ceiling", "MB")]
    for name, case in result["cases"].items():
        if "error" in case:
            table.append((name, "", "", "", "", "", "FAILED (below)", "", "", "", ""))
            continue
        goals = [goal_text(goal) for goal in case["goals"]]
        peers = [(peer, number(case["rates"][peer]["median"]), _spread(ratio["wall"]))
                 for peer, ratio in case["ratios"].items()]
        peers = [("1 thread" if p[0] == "one" else p[0], *p[1:]) for p in peers]
        peers += [(peer, "SKIPPED", "") for peer in case["skipped"] if peer != "instructions"]
        peers += [(part, "FAILED", "") for part in case["failures"]]
        accuracy = case.get("accuracy", {})
        checked = "-" if "checked" not in accuracy else (
            f"{accuracy['off']}/{number(accuracy['checked'])}"
            + (f", {accuracy['wrong_optimum']} WRONG" if accuracy["wrong_optimum"] else ""))
        share = case.get("ceiling")
        count = case.get("instructions", {}).get("per_replicate")
        peak = case["memory"]["peak_kb"]
        tier = case.get("facts", {}).get("tier", "")
        own = (name, tier, number(case["rates"]["batchlmm"]["median"]))
        other = (checked, number(count), f"{100 * share['share']:.0f} %" if share else "-",
                 f"{peak / 1024:.0f}" if peak else "-")
        for i in range(max(1, len(goals), len(peers))):
            table.append((*(own if i == 0 else ("", "", "")), *(peers[i] if i < len(peers) else ("", "", "")),
                          goals[i] if i < len(goals) else "", *(other if i == 0 else ("", "", "", ""))))
    return table


def text(result):
    """The table as aligned text."""
    table = rows(result)
    right = {2, 4, 8, 9, 10}
    widths = [max(len(row[c]) for row in table) for c in range(len(table[0]))]
    lines = []
    for i, row in enumerate(table):
        cells = [cell.rjust(w) if c in right else cell.ljust(w) for c, (cell, w) in enumerate(zip(row, widths))]
        lines.append("  ".join(cells).rstrip())
        if i == 0:
            lines.append("  ".join("-" * w for w in widths))
    for name, curve in result.get("curves", {}).items():
        lines.append("")
        if "error" in curve:
            lines.append(f"{name}: FAILED: {curve['error']}")
            continue
        lines.append(f"{name}: {curve['what']}")
        for label, points in curve["series"].items():
            lines.append(f"  {label:15} " + "  ".join(f"{p['x']:,}: {number(p['rate'])}/s" for p in points))
            if name == "curve-replicates" and points:
                lines.append("  peak MB         " + "  ".join(f"{p['x']:,}: {p['peak_kb'] / 1024:.1f}" for p in points))
    return "\n".join(lines)


def failures(result):
    """One line a failure: what did not run, and replicates that break the contract."""
    lines = []
    for name, case in result["cases"].items():
        if "error" in case:
            lines.append(f"{name}: {case['error']}")
            continue
        lines += [f"{name}: {part}: {why}" for part, why in case["failures"].items()]
        accuracy = case.get("accuracy", {})
        if accuracy.get("off") or accuracy.get("wrong_optimum"):
            lines.append(f"{name}: accuracy: {accuracy['off']} of {accuracy['checked']} off by more than 1e-8, "
                         f"{accuracy['wrong_optimum']} at a wrong optimum")
    lines += [f"{name}: {curve['error']}" for name, curve in result.get("curves", {}).items() if "error" in curve]
    if "error" in result.get("kernels", {}):
        lines.append(f"kernels: {result['kernels']['error']}")
    return lines
