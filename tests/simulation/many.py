"""Many seeds on every core, and what they came to together."""

import gc
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

from tests.simulation.world import simulate

CHUNK = 10


@dataclass
class Sum:
    """What seeds came to: those that went wrong, and in how many of them each situation came about."""

    seeds: int = 0
    faults: int = 0
    steps: int = 0
    wrong: dict[int, str] = field(default_factory=dict)
    situations: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Sum") -> None:
        self.seeds += other.seeds
        self.faults += other.faults
        self.steps += other.steps
        self.wrong |= other.wrong
        self.situations.update(other.situations)


def together(seeds: Sequence[int]) -> Sum:
    """Run seeds one after the other; the garbage of each is collected at once, while it is still near the processor."""
    gc.disable()
    gc.freeze()
    total = Sum()
    try:
        for seed in seeds:
            result = simulate(seed, digesting=False)
            gc.collect()
            wrong = {seed: result.wrong} if result.wrong else {}
            total.add(Sum(1, result.faults, result.steps, wrong, Counter(result.situations)))
    finally:
        gc.enable()
    return total


def on_every_core(seeds: range) -> Sum:
    """Run seeds on as many processes as there are cores."""
    chunks = [seeds[n : n + CHUNK] for n in range(0, len(seeds), CHUNK)]
    total = Sum()
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for part in pool.map(together, chunks):
            total.add(part)
    return total
