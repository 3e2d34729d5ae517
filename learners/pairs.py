"""Preference pairs from played games: siblings, the data's words, or one role's words against another's."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from learners.examples import Example, nearest, turns_of, words, worth
from models.engine import Engine
from selfplay.seeds import derive
from selfplay.types import Completion, Episode, Turn, Verifier

SIBLING = "sibling"


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two replies to one question (as a judge is told it), the first held for the better one."""

    query: str
    first: Completion
    second: Completion


class Pairs:
    """Makes pairs of replies to what ``role`` was told.

    ``winner`` says which of two is the better one: ``sibling``, the best of the siblings against the worst of them, by
    the mean of the verdict's ``part`` or of the role's return (None), and no pair where they are at most ``margin``
    apart (Self-Rewarding, arXiv 2401.10020, section 2.3); a slot of the case, as ``reference``, against the role's own
    words (SPIN, arXiv 2401.01335); or another role, whose last words in the game win against the role's first ones.

    With a ``judge`` (a verifier that is told both replies, the other one in the slot ``rival``) its score is the
    chance that the first is the better one; siblings are then paired off by ``seed``, whatever they earned, and
    ``margin`` is of |2p - 1| (RLAIF: arXiv 2212.08073, section 4; 2309.00267). ``encode`` also takes words without
    tokens.
    """

    def __init__(
        self,
        engine: Engine,
        role: str,
        *,
        winner: str = SIBLING,
        part: str | None = None,
        margin: float = 0.0,
        judge: Verifier | None = None,
        encode: bool = False,
        seed: int = 0,
    ) -> None:
        if margin < 0:
            raise ValueError(f"learner.margin={margin} must be at least 0")
        self.engine, self.role, self.winner, self.part, self.margin = engine, role, winner, part, margin
        self.judge, self.encode, self.seed = judge, encode, seed

    def __call__(self, episodes: Sequence[Episode]) -> tuple[list[Example], dict[str, float]]:
        """The pairs of some games, and ``pairs/...``: how many were found, and of all that could be had the shares
        that were tied, equal, or not decided by the judge."""
        counts: Counter[str] = Counter()
        leaves = turns_of(episodes, self.role)
        if self.winner != SIBLING:
            pairs = self._against(leaves)
        elif self.judge is None:
            pairs = self._best_and_worst(leaves, counts)
        else:
            pairs = self._paired_off(leaves)
        counts["tried"] += len(pairs)
        told_apart = [pair for pair in pairs if pair.first.text.split() != pair.second.text.split()]
        counts["equal"] = len(pairs) - len(told_apart)
        examples = self._labelled(told_apart, counts)
        tried = max(counts["tried"], 1)
        shares = {f"pairs/{name}_share": counts[name] / tried for name in ("tied", "equal", "undecided")}
        return examples, {"pairs/found": float(len(examples))} | shares

    # -- which two --------------------------------------------------------------------------------------------------

    def _siblings(self, leaves: dict[Turn, list[Episode]]) -> list[list[tuple[Turn, Completion]]]:
        groups: dict[int, list[tuple[Turn, Completion]]] = {}
        for turn in leaves:
            if (said := words(self.engine, turn, encode=self.encode)) is not None:
                groups.setdefault(turn.group, []).append((turn, said))
        return [group for group in groups.values() if len(group) > 1]

    def _best_and_worst(self, leaves: dict[Turn, list[Episode]], counts: Counter[str]) -> list[_Pair]:
        """One pair per group. Of equally good ones it is the one whose tokens sort first: a rule that does not depend
        on the order of the games."""
        pairs: list[_Pair] = []
        for group in self._siblings(leaves):
            judged = [(worth(leaves[turn], turn, self.part), said, turn) for turn, said in group]
            judged = [one for one in judged if not math.isnan(one[0])]
            if len(judged) < 2:
                continue
            best = min(judged, key=lambda one: (-one[0], one[1].token_ids))
            worst = min(judged, key=lambda one: (one[0], one[1].token_ids))
            if best[0] - worst[0] > self.margin:
                pairs.append(_Pair(_told(best[2]), best[1], worst[1]))
            else:
                counts["tied"] += 1
                counts["tried"] += 1
        return pairs

    def _paired_off(self, leaves: dict[Turn, list[Episode]]) -> list[_Pair]:
        """Siblings two by two; of an odd number one stays alone. Equal words lie beside each other in the drawn order,
        so one half of it meets the other: neighbours would teach nothing."""
        pairs: list[_Pair] = []
        for group in self._siblings(leaves):
            drawn = sorted(group, key=lambda one: (derive(self.seed, "pair", *one[1].token_ids), one[1].token_ids))
            half = len(drawn) // 2
            for (turn, first), (_, second) in zip(drawn[:half], drawn[-half:], strict=True):
                pairs.append(_Pair(_told(turn), first, second))
        return pairs

    def _against(self, leaves: dict[Turn, list[Episode]]) -> list[_Pair]:
        """The words of a slot, or of another role, against the role's own."""
        pairs: list[_Pair] = []
        for turn, its in leaves.items():
            said = words(self.engine, turn, encode=self.encode)
            if said is None or turn is not _first(its[0], self.role):
                continue
            winners = dict.fromkeys(self._winner(turn, leaf) for leaf in its if leaf.case)
            pairs += [_Pair(_told(turn), better, said) for better in winners if better is not None]
        return pairs

    def _winner(self, asked: Turn, leaf: Episode) -> Completion | None:
        spoke = [turn for turn in leaf.turns if turn.role == self.winner]
        if spoke:
            return words(self.engine, spoke[-1], asked, encode=self.encode)
        if self.winner not in leaf.case:
            known = {*leaf.case, *(turn.role for turn in leaf.turns), SIBLING}
            raise ValueError(f"learner.winner={self.winner!r} is no role and no slot here{nearest(self.winner, known)}")
        text = leaf.case[self.winner]
        return self.engine.encode(asked.observation, text) if text.strip() else None

    # -- how sure ---------------------------------------------------------------------------------------------------

    def _labelled(self, pairs: Sequence[_Pair], counts: Counter[str]) -> list[Example]:
        """The pairs with the chance that their first one is better, turned so that it is at least a half."""
        if self.judge is None:
            return [Example((pair.first, pair.second)) for pair in pairs]
        if not pairs:
            return []
        cases = [{"query": p.query, "answer": p.first.text, "reference": "", "rival": p.second.text} for p in pairs]
        examples: list[Example] = []
        for pair, chance in zip(pairs, self.judge(cases), strict=True):
            if math.isnan(chance):
                counts["undecided"] += 1
            elif not 0 <= chance <= 1:
                raise ValueError(f"learner.judge gave {chance}, which is no chance between 0 and 1")
            elif abs(2 * chance - 1) <= self.margin:
                counts["tied"] += 1
            elif chance > 0.5:
                examples.append(Example((pair.first, pair.second), chance))
            else:
                examples.append(Example((pair.second, pair.first), 1 - chance))
        return examples


def _told(turn: Turn) -> str:
    return str(turn.observation.get("user", ""))


def _first(episode: Episode, role: str) -> Turn:
    return next(turn for turn in episode.turns if turn.role == role)
