"""What got slower between two results, by instructions a replicate."""

# Counts of one build repeat to the instruction, but for the memory's layout.
TOLERANCE = 0.01


def compare(old, new, tolerance=TOLERANCE):
    """@return lines to print, and the names of the cases whose count grew by more than `tolerance`"""
    lines, slower = [], []
    for name, case in new["cases"].items():
        after = case.get("instructions", {})
        before = old["cases"].get(name, {}).get("instructions", {})
        if "per_replicate" not in after or "per_replicate" not in before:
            if "per_replicate" in before:
                lines.append(f"{name}: counted before, not now")
            continue
        if before["kernels"] != after["kernels"] or set(before["counts"]) != set(after["counts"]):
            lines.append(f"{name}: counted in another way before ({before['kernels']}, "
                         f"{', '.join(before['counts'])} replicates): not compared")
            continue
        change = after["per_replicate"] / before["per_replicate"] - 1
        state = "SLOWER" if change > tolerance else "faster" if change < -tolerance else "same"
        if change > tolerance:
            slower.append(name)
        lines.append(f"{name}: {before['per_replicate']:,.0f} -> {after['per_replicate']:,.0f} instructions a "
                     f"replicate, {100 * change:+.1f} %: {state}")
    if not lines:
        lines.append("no case was counted in both")
    return lines, slower
