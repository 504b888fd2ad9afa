"""`python -m benchmarks.simulator --histories N --seed S`: one line; exit status 1 on a violation."""

from __future__ import annotations

import argparse
import json
import sys
import time

from benchmarks.simulator.history import run
from benchmarks.simulator.plan import KINDS, draw
from benchmarks.simulator.shrinking import shown, shrink


def main() -> int:
    """The door."""
    asked = argparse.ArgumentParser(prog="python -m benchmarks.simulator", description=__doc__)
    asked.add_argument("--histories", type=int, default=500)
    asked.add_argument("--seed", type=int, default=0, help="the first seed; history k has seed + k")
    asked.add_argument("--minutes", type=float, default=None, help="stop after this long, whatever --histories says")
    asked.add_argument("--keep-going", action="store_true", help="do not stop at the first violation")
    asked.add_argument("--show", action="store_true", help="print the (first) history whole")
    asked.add_argument("--json", action="store_true", help="one JSON object instead of a line")
    asked.add_argument("--all", action="store_true", help="with the kinds of fault that the code does not yet stand")
    asked.add_argument("--mutants", action="store_true", help="how many histories each mutant lives")
    options = asked.parse_args()
    if options.mutants:
        from benchmarks.simulator.mutants import table

        return table(options.histories, options.seed, as_json=options.json)
    begun, played, virtual, found = time.monotonic(), 0, 0.0, []
    for seed in range(options.seed, options.seed + options.histories):
        if options.minutes is not None and time.monotonic() - begun > 60 * options.minutes:
            break
        told = run(draw(seed, frozenset(KINDS) if options.all else None))
        played, virtual = played + 1, virtual + told.seconds
        if options.show:
            print(shown(told, whole=True))
            options.show = False
        if told.violations:
            found.append({"seed": seed, "violations": [[one.kind, one.text] for one in told.violations]})
            if not options.keep_going:
                print(shown(shrink(told)), file=sys.stderr)
                break
            print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    took = time.monotonic() - begun
    summary = {
        "histories": played, "first_seed": options.seed, "violations": len(found), "found": found,
        "seconds": round(took, 1), "rate_per_s": round(played / took, 1), "virtual_hours": round(virtual / 3600, 1),
    }  # fmt: skip
    if options.json:
        print(json.dumps(summary))
    else:
        print(
            f"{played} histories from seed {options.seed}: {len(found)} with a violation; {took:.1f} s, "
            f"{played / took:.1f} a second, {virtual / 3600:.1f} virtual hours"
        )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
