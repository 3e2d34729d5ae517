"""What happened in a step, in numbers named as TRL names them, per role: never one mean over roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev

from selfplay.types import VERIFIER, Completion, Episode, Turn

PHASES = ("generate", "judge", "update", "other")
"""What every step's seconds are counted under; an exam or an audit comes on top."""


def describe(episodes: Sequence[Episode]) -> dict[str, float]:
    """Rewards, lengths, entropy, forfeits and voids of a step's episodes.

    ``reward/<role>`` is over episodes that are not void. ``entropy/<role>`` is the mean of -log pi(token) over the
    tokens that were sampled: an unbiased estimate at temperature 1. ``proposals/valid_share`` is the share of the
    first speaker's turns that led to at least one verdict.
    """
    metrics: dict[str, float] = {"episodes": float(len(episodes))}
    if not episodes:
        return metrics
    metrics["episodes/void_share"] = fmean(episode.void for episode in episodes)
    roles = dict.fromkeys(role for episode in episodes for role in episode.returns)
    for role in roles:
        earned = [episode.returns[role] for episode in episodes if not episode.void and role in episode.returns]
        if earned:
            metrics[f"reward/{role}"] = fmean(earned)
            metrics[f"reward_std/{role}"] = pstdev(earned)
        metrics[f"forfeits/{role}"] = _forfeits(role, episodes)
        metrics |= _completions(role, episodes)
    metrics["proposals/valid_share"] = _valid_share(episodes)
    return metrics


def _forfeits(role: str, episodes: Sequence[Episode]) -> float:
    """The share of the role's turns that broke the rules, each shared turn once: a forfeit has no branches after it."""
    turns = {turn for episode in episodes for turn in episode.turns if turn.role == role}
    broken = {episode.turns[-1] for episode in episodes if episode.forfeit == role}
    return len(broken) / len(turns) if turns else 0.0


def _completions(role: str, episodes: Sequence[Episode]) -> dict[str, float]:
    turns = dict.fromkeys(turn for episode in episodes for turn in episode.turns if turn.role == role)
    said = [turn.action.completion for turn in turns if turn.action.completion is not None]
    if not said:
        return {}
    tokens = [logprob for completion in said for logprob in _drawn(completion)]
    return {
        f"completions/mean_length/{role}": fmean(len(completion.token_ids) for completion in said),
        f"completions/clipped_ratio/{role}": fmean(completion.finish == "length" for completion in said),
        f"entropy/{role}": -fmean(tokens) if tokens else 0.0,
    }


def _drawn(completion: Completion) -> list[float]:
    """The log-probabilities of the tokens that were drawn, and not given by the legal moves."""
    allowed = completion.allowed or ((),) * len(completion.logprobs)
    return [logprob for logprob, among in zip(completion.logprobs, allowed, strict=True) if len(among) != 1]


def _valid_share(episodes: Sequence[Episode]) -> float:
    """A proposal is valid when it was no forfeit and some verifier could tell what to make of it, or the game's own
    rules paid at its end; 0 where nobody came to propose."""
    valid: dict[Turn, bool] = {}
    for episode in episodes:
        if not episode.turns:
            continue
        first = episode.turns[0]
        ended = (
            not episode.forfeit and not episode.truncated
        )  # only a game without a verifier ends so without a verdict
        judged = (episode.turns[-1].role == VERIFIER or ended) and not episode.void
        rules = episode.forfeit not in ("", first.role)  # somebody else broke the rules: the proposal stands
        valid[first] = valid.get(first, False) or judged or rules
    return fmean(valid.values()) if valid else 0.0


def count_tokens(episodes: Sequence[Episode]) -> int:
    """Sampled tokens of all turns, each shared turn once."""
    turns = dict.fromkeys(turn for episode in episodes for turn in episode.turns)
    return sum(len(turn.action.completion.token_ids) for turn in turns if turn.action.completion is not None)


def timings(lap: Mapping[str, float], tokens: int) -> dict[str, float]:
    """A row of timings.jsonl: a lap of the stopwatch with the phases that every step has, and tokens per second.

    All rates have the sampled tokens of the step above the line, so that their inverses add up: ``tokens_per_second``
    over ``total``, ``<phase>_tokens_per_second`` over the phase, for generate and update. A phase that took no time,
    as at step 0, has no rate.
    """
    row = {**dict.fromkeys(PHASES, 0.0), **lap}
    row["tokens_per_second"] = tokens / row["total"] if row["total"] else 0.0
    for phase in ("generate", "update"):
        if row[phase]:
            row[f"{phase}_tokens_per_second"] = tokens / row[phase]
    return row
