"""The transfer set of a distillation (arXiv 1503.02531): the words on which a student learns from a teacher, its own or
somebody else's, and how the teacher is told of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from learners.examples import nearest, turns_of, worth
from models.engine import Engine
from models.layout import drawn
from selfplay.seeds import derive
from selfplay.types import Chat, Completion, Episode, Turn


@dataclass(frozen=True, slots=True)
class Lesson:
    """Words to learn, as the student is told to say them and as the teacher is (the same tokens behind another prompt,
    perhaps), and the weight of each of their tokens."""

    said: Completion
    shown: Completion
    weight: float


@dataclass(frozen=True, slots=True)
class TransferSet:
    """Makes lessons of the turns of ``role``; every token of a step weighs the same.

    With probability ``own`` a turn teaches what the student itself said in it, else what somebody else said: the words
    in the slot ``text`` of the case, or, where it is None, those of whoever sits in the role's seat. ``own`` is None
    where the student's own words alone are wanted. The draw hangs on ``seed``, the step and the words, so that the
    order of the episodes means nothing. ``told`` is a template over the case's slots for the teacher's prompt.
    """

    student: Engine
    teacher: Engine | None = None
    role: str = "solver"
    text: str | None = None
    part: str = "score"
    threshold: float | None = None
    own: float | None = 0.0
    told: str | None = None
    seed: int = 0

    def __call__(self, episodes: Sequence[Episode], step: int) -> tuple[list[Lesson], dict[str, float]]:
        """The lessons of a step, equal ones as one that weighs more, and what there is to tell of them: the shares of
        turns that were ``kept`` and of lessons that were the student's ``own``, how many were ``too_long``, and the
        ``tokens`` that are learned."""
        found = {turn: games for turn, games in self._turns(episodes).items() if games}
        counts, times = Counter[str](), Counter[tuple[Completion, Completion]]()
        for turn, games in found.items():
            if self.threshold is not None and not worth(games, turn, self.part) >= self.threshold:
                continue  # nan, where no verdict was given, is no pass
            counts["kept"] += 1
            for said in self._words(turn, games, step):
                shown = self._shown(said, turn, games[0])
                if shown is None:
                    counts["too_long"] += 1
                else:
                    times[said, shown] += 1
                    counts["own"] += said is turn.action.completion
        if self.own is None and found and not any(turn.action.completion for turn in found):
            raise ValueError(
                f"the turns of learner.role={self.role!r} have no tokens of the student's own: seat the model itself, "
                "with trained=true"
            )
        tokens = math.fsum(drawn(said) * count for (said, _), count in times.items())
        metrics = {"distill/too_long": float(counts["too_long"]), "distill/tokens": tokens}
        if found:
            metrics["distill/kept"] = counts["kept"] / len(found)
        if times:
            metrics["distill/own"] = counts["own"] / times.total()
        # By their tokens: whatever order the games came in, the same lessons make the same batches.
        made = [Lesson(said, shown, count / tokens) for (said, shown), count in times.items()]
        order = sorted(made, key=lambda lesson: (lesson.said.prompt_ids, lesson.said.token_ids, lesson.said.allowed))
        return order, metrics

    def _turns(self, episodes: Sequence[Episode]) -> dict[Turn, list[Episode]]:
        turns = turns_of(episodes, self.role)
        return {turn: [game for game in games if not game.void] for turn, games in turns.items()}

    def _words(self, turn: Turn, games: Sequence[Episode], step: int) -> list[Completion]:
        """What is learned from a turn, as the student's tokens."""
        said = turn.action.completion
        if said is not None and said.token_ids and self._is_own(turn, step):
            return [said]
        if self.own is None:
            return []
        if self.text is not None:
            texts = [_slot(game.case, self.text) for game in games]
        elif said is None:
            texts = [turn.action.move] if games[0].forfeit != turn.role else []
        elif self._is_own(turn, step):
            texts = []  # nothing was said
        else:
            raise ValueError(
                f"the turns of learner.role={self.role!r} are a trained player's, and somebody else's words are "
                "wanted: seat a teacher with trained=false, or name the slot that holds them in learner.text"
            )
        return [self.student.encode(turn.observation, text) for text in dict.fromkeys(texts) if text.strip()]

    def _is_own(self, turn: Turn, step: int) -> bool:
        if self.own is None or self.own in (0, 1):
            return self.own != 0
        words = (turn.observation.get("system", ""), turn.observation.get("user", ""), turn.action.move)
        return derive(self.seed, "own", step, *words) < self.own * 2**63

    def _shown(self, said: Completion, turn: Turn, game: Episode) -> Completion | None:
        """The same tokens behind what the teacher is told; None where a model's context does not hold them."""
        chat: Chat = turn.observation
        length = len(said.token_ids)
        if said is not turn.action.completion and not self.student.fits([chat], length)[0]:
            return None
        if self.teacher is None:
            return said
        if self.told is not None:
            chat = {"system": chat.get("system", ""), "user": _fill(self.told, game.case)}
        if not self.teacher.fits([chat], length)[0]:
            return None
        # In the teacher's own chat template, which may differ where the tokens do not.
        return replace(said, prompt_ids=self.teacher.encode(chat, "").prompt_ids)


def _slot(case: Mapping[str, str], slot: str) -> str:
    """The words in a slot; none where a game ended before it had a case."""
    if case and slot not in case:
        raise ValueError(f"learner.text={slot!r} is no slot of the case{nearest(slot, case)}")
    return case.get(slot, "")


def _fill(told: str, case: Mapping[str, str]) -> str:
    try:
        return told.format_map(case)
    except (KeyError, IndexError, ValueError) as error:
        slots = ", ".join(sorted(case))
        raise ValueError(f"learner.told={told!r} may hold slots of the case and no other braces: {slots}") from error
