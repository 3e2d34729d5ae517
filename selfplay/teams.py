"""Teams: seats that share what they earn, so that each is praised for what all of them achieved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from selfplay.compose import did_you_mean
from selfplay.credit import Bonus, CreditError, Estimator
from selfplay.lessons import Settled
from selfplay.types import Episode, Stateful, Turn
from selfplay.whose import mean, seated


class Teams:
    """Any estimator, on episodes in which every seat of a team has earned the mean of the team's seats.

    ``teams`` maps a name to roles or seats, as ``{town: [villager, seer]}``; a game's own are ``${env.teams}``. What
    was paid after a turn is shared as well, so turn-level credit sees the team's payments when they came. Turns,
    verdicts and cases are untouched, and a payoff that pays a team alike is left as it is. Raises ``ValueError`` for a
    team of nobody and for somebody in two teams, ``CreditError`` for a name that no game has.

    By hand, a team of two jurors who earn 1 and 0: both have earned 0.5.
    """

    def __init__(self, teams: Mapping[str, Sequence[str]], credit: Estimator) -> None:
        self.teams = {str(team): _members(str(team), members) for team, members in teams.items()}
        self.credit, self._met = credit, False
        listed = [name for members in self.teams.values() for name in members]
        for name in listed:
            if listed.count(name) > 1:
                raise ValueError(f"teams name {name!r} twice: who earns for two teams cannot share with one")

    def __call__(self, episodes: Sequence[Episode], bonus: Bonus | None = None) -> dict[Turn, float]:
        self._check(episodes)
        return self.credit([shared(episode, self.teams) for episode in episodes], bonus)

    def metrics(self) -> dict[str, float]:
        """Those of the estimator."""
        told: dict[str, float] = getattr(self.credit, "metrics", dict[str, float])()
        return told

    def save(self, folder: Path) -> None:
        if isinstance(self.credit, Stateful):
            self.credit.save(folder)

    def load(self, folder: Path) -> None:
        if isinstance(self.credit, Stateful):
            self.credit.load(folder)

    def _check(self, episodes: Sequence[Episode]) -> None:
        """The names, by the first games that are seen: a role that is dealt may be missing from later ones."""
        known = {name for episode in episodes for name in (*episode.returns, *episode.seats)}
        if self._met or not known:
            return
        self._met = True
        for team, members in self.teams.items():
            for name in members:
                if name not in known:
                    raise CreditError(
                        f"teams.{team} names {name!r}{did_you_mean(name, sorted(known))}, who earns nothing: these do: "
                        f"{', '.join(sorted(known))}"
                    )


def shared(episode: Episode, teams: Mapping[str, Sequence[str]]) -> Episode:
    """The same turns, with returns, seats and payments shared within teams; the very same episode where that changes
    nothing, where it is void, and where a gate has decided what it is worth."""
    if episode.void or isinstance(episode, Settled):
        return episode
    sitting = {role: [seat for seat in members if seat] for role, members in seated(episode).items()}
    groups = [_seats_of(members, sitting, episode) for members in teams.values()]
    earned = {turn.seat: episode.earned(turn) for turn in episode.turns if turn.role in sitting}
    earned |= episode.seats
    seats, paid = _shared(earned, groups), tuple(_shared(amounts, groups) for amounts in episode.paid)
    if seats == earned and paid == episode.paid:
        return episode
    pooled = {seat for group in groups for seat in group}
    means = {
        role: mean([seats[seat] for seat in members])
        for role, members in sitting.items()
        if pooled.intersection(members)
    }
    return replace(episode, returns={**episode.returns, **means}, seats=seats, paid=paid)


def _seats_of(members: Sequence[str], sitting: Mapping[str, Sequence[str]], episode: Episode) -> list[str]:
    """The seats that a team's names stand for: those of a role, or one itself."""
    found = (sitting.get(name, [name] if name in episode.seats else []) for name in members)
    return list(dict.fromkeys(seat for seats in found for seat in seats))


def _shared(amounts: Mapping[str, float], groups: Sequence[Sequence[str]]) -> dict[str, float]:
    """The amounts, in which all members of a group have the mean of theirs; who is not named has 0."""
    after = dict(amounts)
    for group in groups:
        if any(seat in amounts for seat in group):
            after |= dict.fromkeys(group, mean([amounts.get(seat, 0.0) for seat in group]))
    return after


def _members(team: str, members: Sequence[str]) -> tuple[str, ...]:
    if isinstance(members, str) or not members:
        raise ValueError(f"teams.{team}={members!r} must be a list of roles or seats, as [villager, seer]")
    return tuple(str(name) for name in members)
