#!/usr/bin/env bash
# bench/gpu.sh pack [--build DIR] [--architectures 90-real] [--out DIR]
#                                               builds the GPU tests and benchmarks and packs them, with the libraries and
#                                               tables that they need, for a machine that has a card and little else
# bench/gpu.sh run [--pack DIR] [--seconds N]   on a machine with a card: GPU tests, compute-sanitizer, benchmarks on the card
#                                               and on all cores, ceilings, a profile; ten minutes at most. Writes
#                                               bench/results/gpu.json and gpu.md
# bench/gpu.sh run --dry-run                    prints what would be run
#
# Exit codes: 0 all is well, 1 a test failed (or found a difference), 2 there is no card, or bad usage.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
command -v python3 >/dev/null || {
  echo "bench/gpu.sh: expected python3 on PATH, found none" >&2
  exit 2
}
cd "$here"
exec python3 -B -m harness.gpu "$@"
