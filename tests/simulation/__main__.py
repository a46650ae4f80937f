"""``python -m tests.simulation SEED`` plays one seed again and tells its story; ``FIRST LAST`` runs those between."""

import sys

from tests.simulation.many import on_every_core
from tests.simulation.world import CLASSES, Result, simulate


def main(arguments: list[str]) -> int:
    """Play one seed, or many; exit 1 when something that may never happen did."""
    match arguments:
        case [seed]:
            return _one(int(seed))
        case ["--digests", first, last]:
            for each in range(int(first), int(last)):
                print(each, simulate(each).digest)
            return 0
        case [first, last]:
            return _many(int(first), int(last))
        case _:
            print("which one? make simulate SEED=7, or SEED='0 1000' for a thousand")
            return 2


def _one(seed: int) -> int:
    result = simulate(seed, telling=True)
    print("\n".join(result.story))
    print(f"seed {seed}: {result.faults} faults, {result.steps} steps, digest {result.digest}")
    print(f"situations: {', '.join(sorted(result.situations))}")
    if not result.wrong:
        print("all is well")
        return 0
    print(f"WRONG: {result.wrong}")
    print(f"it takes no more than these faults: {', '.join(_needed(result)) or 'none'}")
    return 1


def _needed(result: Result) -> list[str]:
    """Return the faults without which the same thing does not go wrong: every other class is left out."""
    off: frozenset[str] = frozenset()
    name = result.wrong.partition(":")[0]
    for fault in CLASSES:
        if simulate(result.seed, off=off | {fault}).wrong.partition(":")[0] == name:
            off |= {fault}
    return [fault for fault in CLASSES if fault not in off]


def _many(first: int, last: int) -> int:
    total = on_every_core(range(first, last))
    for name, count in sorted(total.situations.items()):
        print(f"{name:36} {100 * count / total.seeds:6.1f} %")
    print(
        f"{total.seeds} seeds, {total.faults / total.seeds:.1f} faults and {total.steps / total.seeds:.0f} steps each"
    )
    for seed, wrong in sorted(total.wrong.items()):
        print(f"seed {seed}: {wrong}")
    return 1 if total.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
