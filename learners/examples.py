"""What the learners that imitate learn from: words that are right, or pairs of which one is better.

They come from whatever was played, under whatever weights; so unlike a policy gradient's turns they can be kept,
learned several times, and written to a checkpoint.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from statistics import fmean
from typing import Any

from models.engine import Engine
from models.layout import drawn
from selfplay.lessons import Silenced
from selfplay.types import Completion, Episode, Turn

Key = tuple[tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, ...], ...]], ...]


@dataclass(slots=True)
class Example:
    """One completion to imitate, or a pair (chosen, rejected).

    ``weight`` is how much it counts; of a pair, the chance that the first is the better one. ``given`` marks words of
    the data, which nobody sampled. ``share`` is its part of the present batch's loss, and ``reference`` holds one
    log-probability for each completion, (2,) in nats, by the model that a pair is held against: both are set anew for
    every round and are not kept.
    """

    said: tuple[Completion, ...]
    weight: float = 1.0
    given: bool = False
    share: float = 0.0
    reference: tuple[float, ...] = ()

    @property
    def tokens(self) -> int:
        return sum(drawn(completion) for completion in self.said)


def said(example: Example) -> tuple[Completion, ...]:
    """The completions that an example scores, as ``OptimizerStep`` asks for them."""
    return example.said


def in_order(examples: Sequence[Example]) -> list[Example]:
    """By their tokens: whatever order the games came in, the same examples make the same batches."""
    return sorted(examples, key=lambda example: (key(example), example.weight))


def key(example: Example) -> Key:
    """What makes an example the same as another one: its tokens, and what they were chosen among."""
    return tuple((completion.prompt_ids, completion.token_ids, completion.allowed) for completion in example.said)


# -- from the tree to words --------------------------------------------------------------------------------------------


def turns_of(episodes: Sequence[Episode], role: str) -> dict[Turn, list[Episode]]:
    """Every turn of a role with its leaves, but for those that are ``Silenced``. Raises ``ValueError`` where games came
    to a verdict and there is no such role; one that had no turn, because others ended every game before it, has just
    nothing to teach."""
    leaves: dict[Turn, list[Episode]] = {}
    spoke: set[str] = set()
    for episode in episodes:
        for turn in episode.turns:
            spoke.add(turn.role)
            if turn.role == role and not isinstance(turn, Silenced):
                leaves.setdefault(turn, []).append(episode)
    known = role in spoke or any(role in episode.returns for episode in episodes)
    if not known and any(episode.verdict for episode in episodes):
        raise ValueError(f"learner.role={role!r} never speaks in this game{nearest(role, spoke)}")
    return leaves


def worth(leaves: Sequence[Episode], turn: Turn, part: str | None) -> float:
    """The mean over a turn's leaves of the verdict's ``part`` (``score_of``), or of what its seat earned where that is
    None; nan where there is nothing to go by."""
    if part is not None:
        return score_of(leaves, part)
    found = [leaf.earned(turn) for leaf in leaves if not leaf.void and turn.role in leaf.returns]
    return fmean(found) if found else math.nan


def score_of(leaves: Sequence[Episode], part: str) -> float:
    """The mean of the verdict's ``part`` over leaves that have a verdict and are not void; nan where none has. Raises
    ``ValueError`` for a part that the verdict does not have."""
    found: list[float] = []
    for leaf in leaves:
        if leaf.void or not leaf.verdict:  # a forfeit is a return, and no verdict
            continue
        if part not in leaf.verdict:
            raise ValueError(f"learner.part={part!r} is no part of the verdict{nearest(part, leaf.verdict)}")
        found.append(leaf.verdict[part])
    return fmean(found) if found else math.nan


def words(engine: Engine, turn: Turn, asked: Turn | None = None, *, encode: bool = False) -> Completion | None:
    """What a turn said as the reply to what it was told, or to what ``asked`` was told; None where nobody may learn
    from it: it has no tokens, and ``encode`` does not allow to make them from its words.

    A reply under another prompt keeps its own tokens.
    """
    completion = turn.action.completion
    if isinstance(turn, Silenced):
        return None
    if completion is not None and completion.token_ids:
        return completion if asked is None else replace(completion, prompt_ids=_prompt(engine, asked), logprobs=())
    if not encode or not isinstance(turn.action.move, str) or not turn.action.move.strip():
        return None
    return engine.encode((asked or turn).observation, turn.action.move)


def _prompt(engine: Engine, turn: Turn) -> tuple[int, ...]:
    completion = turn.action.completion
    return completion.prompt_ids if completion is not None else engine.encode(turn.observation, "").prompt_ids


def nearest(name: str, known: Any) -> str:
    """`` (did you mean 'x'?)`` for the known name closest to ``name``, or all of them."""
    close = get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else f": there is {', '.join(sorted(known))}"


# -- on disk -----------------------------------------------------------------------------------------------------------


def save_examples(examples: Sequence[Example], file: Path) -> None:
    """A JSON line each: the weight, whether it was given, and of every completion text, prompt, tokens, finish and,
    where its tokens were chosen among a few, among which."""
    rows = [[e.weight, e.given, [_row(completion) for completion in e.said]] for e in examples]
    lines = [json.dumps(row) + "\n" for row in rows]
    file.write_text("".join(lines), encoding="ascii")


def load_examples(file: Path) -> list[Example]:
    """What ``save_examples`` wrote, in its order."""
    examples: list[Example] = []
    for line in file.read_text(encoding="ascii").splitlines():
        weight, given, rows = json.loads(line)
        examples.append(Example(tuple(_said(*row) for row in rows), weight, given))
    return examples


def _row(said: Completion) -> list[Any]:
    return [said.text, said.prompt_ids, said.token_ids, said.finish, *([said.allowed] if said.allowed else [])]


def _said(
    text: str, prompt: list[int], tokens: list[int], finish: Any, allowed: Sequence[list[int]] = ()
) -> Completion:
    return Completion(text, tuple(prompt), tuple(tokens), (), finish, tuple(map(tuple, allowed)))
