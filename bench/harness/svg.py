"""The plot of a result: scaling curves and ratio bars, one SVG that reads on light and on dark pages."""

import math
from xml.sax.saxutils import escape

WIDTH = 960
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #24292f; }
  .title { font-weight: 600; font-size: 14px; }
  .small { font-size: 11px; fill: #57606a; }
  .end { text-anchor: end; }
  .middle { text-anchor: middle; }
  .grid { stroke: #d0d7de; stroke-width: 1; }
  .axis { stroke: #57606a; stroke-width: 1; }
  .a { stroke: #0969da; fill: #0969da; }
  .b { stroke: #bc4c00; fill: #bc4c00; }
  .line { fill: none; stroke-width: 2; }
  .bar { stroke: none; }
  .spread { stroke: #24292f; stroke-width: 1.5; }
  .goal { stroke: #cf222e; stroke-width: 2; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .small { fill: #9198a1; }
    .grid { stroke: #3d444d; }
    .axis { stroke: #9198a1; }
    .a { stroke: #4493f8; fill: #4493f8; }
    .b { stroke: #f0883e; fill: #f0883e; }
    .line { fill: none; }
    .bar { stroke: none; }
    .spread { stroke: #e6edf3; }
    .goal { stroke: #f85149; }
  }
"""


def _text(x, y, text, style=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}">{escape(text)}</text>'


def _line(x1, y1, x2, y2, style):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'


def _power(exponent):
    digits = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return {0: "1", 1: "10", 2: "100"}.get(exponent, f"10{digits}")


class Log:
    """A logarithmic axis from whole powers of ten to whole powers of ten, or (tight) from value to value."""

    def __init__(self, values, start, end, tight=False):
        logs = [math.log10(v) for v in values]
        self.low, self.high = math.floor(min(logs) + 1e-9), math.ceil(max(logs) - 1e-9)
        if tight:
            self.low, self.high = min(logs), max(logs)
        if self.high - self.low < 1e-9:
            self.high += 1
        self.start, self.end = start, end

    def at(self, value):
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self):
        low, high = math.ceil(self.low - 1e-9), math.floor(self.high + 1e-9)
        return range(low, high + 1, max(1, math.ceil((high - low) / 6)))


def curve_panel(curve, x0, y0, width, height):
    """Series over a logarithmic x, rate on a logarithmic y."""
    series = {label: [p for p in points if p["rate"] > 0] for label, points in curve["series"].items()}
    series = {label: points for label, points in series.items() if points}
    out = [_text(x0, y0 + 14, curve["what"], "title")]
    if not series:
        return out + [_text(x0, y0 + 40, "no point was measured", "small")]
    left, right, top, bottom = x0 + 44, x0 + width - 12, y0 + 44, y0 + height - 34
    every = [p for points in series.values() for p in points]
    xs, ys = Log([p["x"] for p in every], left, right - 8, True), Log([p["rate"] for p in every], bottom, top)
    for tick in ys.ticks():
        y = ys.at(10 ** tick)
        out += [_line(left, y, right, y, "grid"), _text(left - 6, y + 4, _power(tick), "small end")]
    few = sorted({p["x"] for p in every})
    # A handful of values is marked as they are, more by powers of ten.
    marks = [(x, f"{x:,}") for x in few] if len(few) <= 6 else [(10 ** t, _power(t)) for t in xs.ticks()]
    for x, label in marks:
        at = xs.at(x)
        out += [_line(at, bottom, at, bottom + 4, "axis"), _text(at, bottom + 18, label, "small middle")]
    out += [_line(left, bottom, right, bottom, "axis"), _text(right, bottom + 32, curve["x"], "small end"),
            _text(left, top - 8, "per second", "small")]
    for i, (label, points) in enumerate(series.items()):
        style = "ab"[i % 2]
        path = " ".join(f"{xs.at(p['x']):.1f},{ys.at(p['rate']):.1f}" for p in points)
        out.append(f'<polyline points="{path}" class="{style} line"/>')
        out += [f'<circle cx="{xs.at(p["x"]):.1f}" cy="{ys.at(p["rate"]):.1f}" r="3" class="{style}"/>' for p in points]
        if len(series) > 1:
            x = right - 130 * (len(series) - i) + 20
            out += [f'<circle cx="{x:.1f}" cy="{top - 12:.1f}" r="4" class="{style}"/>',
                    _text(x + 8, top - 8, label, "small")]
    return out


def ratio_bars(result, x0, y0, width):
    """A bar for each case and peer: median ratio, whiskers to the smallest and largest round, a mark at the goal.

    @return the elements, and the height
    """
    bars = []
    for name, case in result["cases"].items():
        for peer, ratio in case.get("ratios", {}).items():
            if peer == "one":
                continue
            goal = next((g["value"] for g in case["goals"] if g["quantity"] == "ratio" and g["peer"] == peer), None)
            bars.append((name, peer, ratio["wall"], goal))
    if not bars:
        return [], 0
    row, left, right = 22, x0 + 300, x0 + width - 70
    top = y0 + 34
    height = 34 + row * len(bars) + 34
    values = [v for _, _, s, goal in bars for v in (s["min"], s["max"], goal or s["max"])] + [1.0]
    xs = Log(values, left, right)
    out = [_text(x0, y0 + 14, "times the peer's rate, both in turns in one run: median, smallest and largest round",
                 "title")]
    for tick in range(xs.low, xs.high + 1):
        x = xs.at(10 ** tick)
        out += [_line(x, top - 6, x, top + row * len(bars), "grid"),
                _text(x, top + row * len(bars) + 16, _power(tick), "small middle")]
    base = xs.at(max(1.0, 10 ** xs.low)) if xs.low >= 0 else xs.at(1.0)
    for i, (name, peer, s, goal) in enumerate(bars):
        y = top + row * i
        end = xs.at(s["median"])
        out += [_text(left - 8, y + 13, f"{name} · {peer}", "end"),
                f'<rect x="{min(base, end):.1f}" y="{y + 3:.1f}" width="{max(1.0, abs(end - base)):.1f}" height="13" '
                f'class="{"a" if s["median"] >= 1 else "b"} bar"/>',
                _line(xs.at(s["min"]), y + 9.5, xs.at(s["max"]), y + 9.5, "spread")]
        if goal is not None:
            out.append(_line(xs.at(goal), y, xs.at(goal), y + 19, "goal"))
        text = f"{s['median']:,.0f}" if s["median"] >= 100 else f"{s['median']:.3g}"
        out.append(_text(max(end, xs.at(s["max"]), xs.at(goal) if goal else 0) + 6, y + 13, text, "small"))
    return out, height


def plot(result):
    """The whole picture as SVG text."""
    body, y = [], 16
    machine, build = result["machine"], result["build"]
    commit = (build.get("commit") or "unknown")[:10] + (" with changes" if build.get("changed_files") else "")
    kernels = (result.get("ceiling") or {}).get("chosen", "unknown")
    body.append(_text(16, y + 4, f"{machine['processor']}, {machine['cores']} cores, kernels {kernels}, commit {commit}, "
                      f"{result['date'][:10]}", "small"))
    y += 18
    bars, height = ratio_bars(result, 16, y, WIDTH - 32)
    body += bars
    y += height + (16 if height else 0)
    panels = [curve for curve in result.get("curves", {}).values() if "error" not in curve]
    width, tall = (WIDTH - 32 - 24) / 2, 250
    for i, curve in enumerate(panels):
        body += curve_panel(curve, 16 + (i % 2) * (width + 24), y + (i // 2) * (tall + 16), width, tall)
    y += ((len(panels) + 1) // 2) * (tall + 16)
    lines = "\n  ".join(body)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}" width="{WIDTH}" height="{y:.0f}" '
            f'role="img" aria-label="Benchmarks of batchlmm">\n<style>{STYLE}</style>\n  {lines}\n</svg>\n')
