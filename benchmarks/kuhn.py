"""Kuhn poker by self-play: the exact exploitability of the model's policy in the course of ``experiment=kuhn_poker``.

    python -m benchmarks.kuhn --seeds 0 1 2 --jobs 2

After every step the policy is read in all twelve information states, as the chances with which the model picks a legal
move. What is judged is the average over all steps, each step's policy weighed by how often its own moves lead to a
state: with opponents that learn, it is the average that comes to an equilibrium, not the last policy. Exploitability is
NashConv / 2, the chips a game that a player gains in the mean by a best response; both players alike at random have
0.458. ``value`` is what the first player earns where the average plays itself, -1/18 = -0.056 in equilibrium.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from benchmarks.games import chances, learn
from benchmarks.report import Report, parser
from selfplay.exploitability import STATES, average, exploitability, nash_conv, value

if TYPE_CHECKING:
    from envs.kuhn_poker import KuhnPoker
    from selfplay.table import Table
    from selfplay.types import Chat

COLUMNS = {
    "seed": ("seed", ""),
    "steps": ("steps", ""),
    "start": ("exploitability at the start", ".3f"),
    "average": ("of the average", ".3f"),
    "last": ("of the last", ".3f"),
    "nash_conv": ("NashConv of the average", ".3f"),
    "value": ("value", ".3f"),
    "last_value": ("of the last", ".3f"),
    "seconds": ("CPU, s", ".0f"),
}


def main(words: list[str] | None = None) -> None:
    line = parser(__doc__)
    line.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    line.add_argument("--jobs", type=int, default=2, help="runs at once, one thread each")
    line.add_argument("--steps", type=int, help="of every run; without it the experiment's own")
    line.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further keys of main.py")
    options = line.parse_args(words)
    report = Report("kuhn", "Kuhn poker by self-play", COLUMNS, options)
    more = [*options.set, *([f"steps={options.steps}"] if options.steps else [])]
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        for row in pool.map(run, options.seeds, [more] * len(options.seeds)):
            report.add(**row)
    report.finish()


def run(seed: int, more: Sequence[str]) -> dict[str, Any]:
    """One run, as a row; ``curve`` has the exploitability of the policy and of the average so far, every 20 steps."""
    asked: dict[str, tuple[Chat, list[str]]] = {}
    policies: list[dict[str, dict[str, float]]] = []

    def look(step: int, table: Table, last: bool, seconds: float) -> None:
        if not asked:
            asked.update(questions(table.game))
        policies.append(policy(table.engine, asked))

    seconds = learn(["experiment=kuhn_poker", f"seed={seed}", *more], look)
    mean = average(policies)
    curve = [
        (step, exploitability(policies[step]), exploitability(average(policies[: step + 1])))
        for step in range(0, len(policies), 20)
    ]
    return {
        "seed": seed,
        "steps": len(policies) - 1,
        "start": exploitability(policies[0]),
        "average": exploitability(mean),
        "last": exploitability(policies[-1]),
        "nash_conv": nash_conv(mean),
        "value": value(mean),
        "last_value": value(policies[-1]),
        "seconds": seconds,
        "policy": mean,
        "curve": curve,
    }


def policy(engine: Any, asked: dict[str, tuple[Chat, list[str]]]) -> dict[str, dict[str, float]]:
    """The model's chances in every information state, by ``p`` and ``b``."""
    found = chances(engine, [chat for chat, _ in asked.values()], [legal for _, legal in asked.values()])
    return {state: dict(zip("pb", each.values(), strict=True)) for state, each in zip(asked, found, strict=True)}


def questions(game: KuhnPoker) -> dict[str, tuple[Chat, list[str]]]:
    """What a player is told in every information state, and the legal moves there, by playing the game."""
    found: dict[str, tuple[Chat, list[str]]] = {}
    seed = 0
    while len(found) < len(STATES):
        start = deepcopy(game)
        start.reset(seed=seed)
        seed, tables = seed + 1, [start]
        while tables:
            table = tables.pop()
            seat = table.agent_selection
            if not table.terminations[seat]:
                info = table.infos[seat]
                found[info["state"]] = table.observe(seat), list(info["legal_actions"])
                for move in info["legal_actions"]:
                    tables.append(deepcopy(table))
                    tables[-1].step(move)
    return {state: found[state] for state in STATES}


if __name__ == "__main__":
    sys.exit(main())
