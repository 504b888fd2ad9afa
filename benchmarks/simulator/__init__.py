"""A seeded simulator of site, network and disk: one process, one seed, one history of the real dispatcher.

    python -m benchmarks.simulator --histories 500 --seed 0

What runs is the shipped code: `Dispatcher`, journal, placer, tracker, poller, `Programs` and the node's runner. What
is simulated lies under it: the clock, the programs of Slurm (`site`), the system calls of the file layer (`disk`), and
who lives, sleeps and dies when (`world`). Everything is a step of one loop on a virtual clock; nothing is left to
threads or to the machine's speed, so a seed is a history that can be shown again and shrunk (`history`, `shrinking`).
`watchman` and `verdicts` hold the invariants; `mutants` takes mends back, to show that the simulator finds them.

It lives beside the benchmarks, and not below the tests, because it is a program with a door of its own (`python -m`):
a night's run is a measurement, whose short form the tests repeat.
"""
