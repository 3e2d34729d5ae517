"""The data gate: which proposals a learner gets to see, decided apart from what they earned and before any training.

Whatever the reward, what is admitted bounds what can be learnt (arXiv 2605.22217): a strict gate held under every
reward that was tried there, and no reward held without one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from selfplay.archive import Archive
from selfplay.candidates import Candidate, GateError, candidates, proposing_turn
from selfplay.compose import ConfigError, build, did_you_mean, resolved
from selfplay.decision import Decision
from selfplay.interval import Interval
from selfplay.lessons import Muted, settled
from selfplay.types import Case, Episode, Turn, Verifier

PROPOSERS = ("keep", "drop")


class Gate:
    """Admits or refuses proposals. A proposal is the first turn of ``role`` (None: of whoever speaks first) with all
    of its leaves; its text is the case's ``slot``. The checks, in the order in which they are asked, by their reasons:

    - ``forfeit``: the proposer broke the rules; ``unjudged``: no verdict can tell anything; ``blank``: no text.
    - ``invalid``: the verdict's part ``valid``, where it has one, is below 1 in a leaf (None: not asked).
    - ``short``, ``long``: ``length`` is the interval of the text's characters.
    - ``banned``: the regular expression ``banned`` is found in the text.
    - ``low_<part>``: the mean of a part of the verdict is below ``least[part]``.
    - ``unstable``: the verifier ``again``, called on the same cases, does not give the verdict's ``part`` exactly.
    - ``hard``, ``easy``: the mean of ``part`` over the answers lies before or after the interval ``band``.
      ``"(0, 1)"`` is DAPO's dynamic sampling (arXiv 2503.14476), ``[0.25, 0.75]`` R-Zero's filter (arXiv 2508.05004).
    - ``near``: a near-duplicate of what ``archive`` holds. The archive grows by what is admitted, and by that alone;
      of near-duplicates in one step the first is admitted.

    Of a refused proposal nobody learns but, with ``proposer="keep"``, its proposer: the proposal is then worth
    ``refused_value``, a number for all reasons or one for each; None, as for a reason that is not named, leaves what
    it earned. With ``"drop"`` it leaves, too. What is ``unjudged`` always leaves: a fault of ours is no value.

    In a step of which some proposals are refused, up to ``refill`` further rounds are played for others in their place
    (``selfplay/refill.py``). Raises ``GateError`` for settings that cannot be followed.
    """

    def __init__(
        self,
        *,
        role: str | None = None,
        slot: str = "query",
        part: str = "score",
        valid: str | None = "valid",
        length: str | Sequence[float] | None = None,
        banned: str | None = None,
        least: Mapping[str, float] | None = None,
        again: Verifier | None = None,
        band: str | Sequence[float] | None = None,
        archive: Archive | None = None,
        proposer: str = "keep",
        refused_value: float | Mapping[str, float | None] | None = None,
        refill: int = 0,
    ) -> None:
        if proposer not in PROPOSERS:
            raise GateError(f"gate.proposer={proposer!r} is unknown: use {' or '.join(PROPOSERS)}")
        if refill < 0:
            raise GateError(f"gate.refill={refill} is a number of further rounds: at least 0")
        self.role, self._slot, self._part, self._valid, self.refill = role, slot, part, valid, refill
        self._length = None if length is None else Interval.of(length, "gate.length")
        self._band = None if band is None else Interval.of(band, "gate.band")
        self._banned = None if banned is None else _compiled(banned)
        self._least = dict(least or {})
        self.again, self.archive, self._proposer = again, archive, proposer
        self._refused_value = refused_value
        known = [reason for reason, _ in self._checks()]
        for name in refused_value if isinstance(refused_value, Mapping) else ():
            if name not in known:
                raise GateError(
                    f"gate.refused_value.{name}: no such reason{did_you_mean(name, known)}: {', '.join(known)}"
                )
        self.decisions: list[Decision] = []
        self._decided: dict[Turn, Decision] = {}  # of the rounds of a step that are not yet lessons
        self._reasons: dict[Turn, str] = {}

    def __call__(self, episodes: Sequence[Episode]) -> tuple[list[Episode], dict[str, float]]:
        """What a learner may see of ``episodes``, in their order, and metrics; ``decisions`` then tells of every
        proposal. Episodes in which nobody came to propose pass as they are. What ``look`` has decided stays so."""
        found = candidates(episodes, self.role, self._slot)
        self.look(episodes)
        decided, self._decided = self._decided, {}
        self.decisions = [decided[proposal.turn] for proposal in found]
        self._reasons = {proposal.turn: decided[proposal.turn].reason for proposal in found}
        metrics = {f"gate/{reason}": 0.0 for reason in self.reasons}
        for reason in filter(None, self._reasons.values()):
            metrics[f"gate/{reason}"] += 1 / len(found)
        admitted = sum(not reason for reason in self._reasons.values())
        metrics["gate/admitted"] = admitted / len(found) if found else 0.0
        metrics["gate/effective_proposals"] = float(admitted)
        if self.archive is not None:
            metrics["gate/archive"] = float(len(self.archive))
        return self._lessons(episodes, self._reasons), metrics

    def look(self, episodes: Sequence[Episode]) -> int:
        """Decide on the proposals of one more round of a step; how many of this round are admitted."""
        found = candidates(episodes, self.role, self._slot)
        self._judge([proposal for proposal in found if proposal.turn not in self._decided])
        return sum(not self._decided[proposal.turn].reason for proposal in found)

    def admitted(self, episodes: Sequence[Episode]) -> list[Episode]:
        """The episodes without those of the proposals that the last call refused."""
        turns = [proposing_turn(episode, self.role) for episode in episodes]
        return [one for one, turn in zip(episodes, turns, strict=True) if turn is None or not self._reasons.get(turn)]

    def save(self, folder: Path) -> None:
        """Write the archive, if there is one."""
        if self.archive is not None:
            self.archive.save(folder)

    def load(self, folder: Path) -> None:
        if self.archive is not None:
            self.archive.load(folder)

    # -- the checks ---------------------------------------------------------------------------------------------------

    @property
    def reasons(self) -> list[str]:
        """The reasons that the settings can give, in the order in which they are asked for."""
        return [reason for reason, asked in self._checks() if asked]

    def _checks(self) -> list[tuple[str, bool]]:
        """Every reason, and whether it is asked for."""
        length, band = self._length is not None, self._band is not None
        return [
            *((reason, True) for reason in ("forfeit", "unjudged", "blank")),
            ("invalid", self._valid is not None),
            ("short", length),
            ("long", length),
            ("banned", self._banned is not None),
            *((f"low_{part}", True) for part in self._least),
            ("unstable", self.again is not None),
            ("hard", band),
            ("easy", band),
            ("near", self.archive is not None),
        ]

    def _judge(self, asked: Sequence[Candidate]) -> None:
        """Decide on each proposal; fills the archive."""
        faults = {proposal.turn: self._fault(proposal) for proposal in asked}
        unstable = self._unstable([proposal for proposal in asked if not faults[proposal.turn]])
        for proposal in asked:
            fault = faults[proposal.turn] or unstable.get(proposal.turn, "")
            self._decided[proposal.turn] = self._decide(proposal, fault)

    def _decide(self, proposal: Candidate, reason: str) -> Decision:
        """The checks that measure, and with them the decision."""
        rate = similarity = None
        if not reason and self._band is not None:
            scores = proposal.scores(self._part)
            rate = fmean(scores) if scores else None
            if rate is None:
                reason = "unjudged"
            elif self._band.below(rate):
                reason = "hard"
            elif self._band.above(rate):
                reason = "easy"
        if not reason and self.archive is not None:
            sketch = self.archive.sketch(proposal.text)
            similarity = self.archive.nearest(sketch)
            if similarity >= self.archive.threshold:
                reason = "near"
            else:
                self.archive.add(sketch)
        return Decision(proposal.text, reason, len(proposal.leaves), rate, similarity)

    def _fault(self, proposal: Candidate) -> str:
        """What a proposal shows by itself."""
        judged, characters = proposal.judged, len(proposal.text)
        if proposal.forfeit:
            return "forfeit"
        if all(leaf.void for leaf in proposal.leaves):
            return "unjudged"
        if not proposal.text.strip():
            return "blank"
        if self._valid is not None and any(leaf.verdict.get(self._valid, 1.0) < 1.0 for leaf in judged):
            return "invalid"
        if self._length is not None and self._length.below(characters):
            return "short"
        if self._length is not None and self._length.above(characters):
            return "long"
        if self._banned is not None and self._banned(proposal.text):
            return "banned"
        for part, least in self._least.items():
            scores = proposal.scores(part) if judged else []
            if not scores or fmean(scores) < least:
                return f"low_{part}"
        return ""

    def _unstable(self, asked: Sequence[Candidate]) -> dict[Turn, str]:
        """The proposals of which some verdict does not come out again; all cases are judged in one call. Where the
        second call cannot tell, that is no fault of the proposal."""
        rows = [(proposal, leaf) for proposal in asked for leaf in proposal.judged]
        if self.again is None or not rows:
            return {}
        first = [proposal.part(leaf, self._part) for proposal, leaf in rows]
        second = self.again([leaf.case for _, leaf in rows])
        if len(second) != len(rows):
            raise GateError(f"gate.again gave {len(second)} scores for {len(rows)} cases")
        found: dict[Turn, str] = {}
        for (proposal, _), before, after in zip(rows, first, second, strict=True):
            if not math.isnan(before) and math.isnan(after):
                found.setdefault(proposal.turn, "unjudged")
            elif not math.isnan(before) and after != before:
                found[proposal.turn] = "unstable"
        return found

    # -- what is left to learn from -----------------------------------------------------------------------------------

    def _lessons(self, episodes: Sequence[Episode], reasons: Mapping[Turn, str]) -> list[Episode]:
        muted, done = Muted(), set[Turn]()
        lessons: list[Episode] = []
        for episode in episodes:
            turn = proposing_turn(episode, self.role)
            reason = reasons[turn] if turn is not None else ""
            if turn is None or not reason:
                lessons.append(episode)
                continue
            # An opponent or a data set learns nothing from its own proposal either.
            if self._proposer == "drop" or reason == "unjudged" or turn.action.completion is None:
                continue
            value = self._value(reason)
            if value is None:
                lessons.append(muted.episode(episode, lambda other, own=turn: other is own))
            elif turn not in done and not episode.void:  # one leaf says it all
                done.add(turn)
                lessons.append(settled(episode, turn, value))
        return lessons

    def _value(self, reason: str) -> float | None:
        if isinstance(self._refused_value, Mapping):
            return self._refused_value.get(reason)
        return self._refused_value


def gate_node(cfg: Any) -> dict[str, Any]:
    """The node ``gate`` of a configuration, resolved; empty where there is no gate. Raises ``ConfigError``."""
    if not cfg.gate:
        return {}
    written: Any = cfg.gate
    if not hasattr(written, "keys") or "_target_" not in written:
        raise ConfigError(f'gate={written} is no gate: write gate={{_target_: selfplay.gate.Gate, band: "(0, 1)"}}')
    return resolved(written)


def open_gate(cfg: Any, seat: Callable[[Mapping[str, Any]], Any]) -> Gate | None:
    """The gate of a configuration's node ``gate``, None where there is none. ``seat`` makes a panel of the node of the
    verifier that is asked again, so that it keeps its deadline and its failures are nan. Raises ``ConfigError``."""
    node = gate_node(cfg)
    if not node:
        return None
    again = node.pop("again", None)
    gate = build(node, cfg.allow)
    if again:
        gate.again = partial(_only_part, seat(again))
    return gate


def _only_part(panel: Any, cases: Sequence[Case]) -> list[float]:
    """The scores of a panel whose verdict has one part."""
    if len(panel.parts) != 1:
        raise GateError(
            f"gate.again gives {', '.join(panel.parts)}: it must be one verifier, or set gate.again.combine"
        )
    return [action.move[panel.parts[0]] for action in panel.act(cases, [])]


def _compiled(pattern: str) -> Callable[[str], object]:
    try:
        return re.compile(pattern).search
    except re.error as error:
        raise GateError(f"gate.banned={pattern!r} is no regular expression: {error.msg}") from error
