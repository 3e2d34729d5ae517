"""Choosing among replies that are known beforehand: a judge's digits by how likely each is, a game's legal moves by
walking the tree of their tokens.

A move is drawn token by token, each from the model's distribution over those tokens that some legal move goes on with.
Only where there are several is the model asked, so that moves which differ in their first token cost one pass. Shape
legend: B rows, K tokens to choose from, U unique prompts, V vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from statistics import fmean

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from models.prefill import prefill
from models.prefixes import Ids, Prefixes
from models.sampling import draw, uniforms
from selfplay.deadline import check


def token_ids(tokenizer: PreTrainedTokenizerBase, replies: Sequence[str], name: str) -> list[int]:
    """The one token of each reply. Raises ``ValueError`` where a reply takes several, or two begin alike."""
    found = [tokenizer(reply, add_special_tokens=False, split_special_tokens=True)["input_ids"] for reply in replies]
    for reply, ids in zip(replies, found, strict=True):
        if len(ids) != 1:
            raise ValueError(f"{reply!r} is {len(ids)} tokens of {name!r}: only replies of one token can be weighed")
    firsts = [ids[0] for ids in found]
    if len(set(firsts)) < len(firsts):
        raise ValueError(f"two of the replies {list(replies)} are the same token of {name!r}")
    return firsts


@torch.inference_mode()
def next_logprobs(
    model: PreTrainedModel,
    prompts: Sequence[tuple[int, ...]],
    ids: Sequence[int],
    pad_id: int,
    prefixes: Prefixes | None = None,
) -> Tensor:
    """Log-probabilities (B, K), on the CPU in float32, of the K tokens ``ids`` after each of the B prompts."""
    check()
    unique = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    logits_UV = prefill(model, list(unique), pad_id, prefixes).logits_UV
    return logits_UV.log_softmax(-1)[:, list(ids)].cpu()[[unique[prompt] for prompt in prompts]]


@torch.inference_mode()
def next_logits(
    model: PreTrainedModel,
    prompts: Sequence[Ids],
    ids: Sequence[Sequence[int]],
    pad_id: int,
    prefixes: Prefixes | None = None,
) -> Tensor:
    """Logits (B, K), on the CPU in float64, of the tokens ``ids[i]`` after ``prompts[i]``; -inf where a row has fewer
    than K."""
    check()
    unique = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    logits_UV = prefill(model, list(unique), pad_id, prefixes).logits_UV
    width = max(map(len, ids))
    id_BK = torch.tensor([[*row, *[row[0]] * (width - len(row))] for row in ids], device=logits_UV.device)
    row_B1 = torch.tensor([[unique[prompt]] for prompt in prompts], device=logits_UV.device)
    none_BK = torch.tensor([[k >= len(row) for k in range(width)] for row in ids])
    return logits_UV[row_B1, id_BK].double().cpu().masked_fill_(none_BK, -torch.inf)


# -- the tree of the legal moves -------------------------------------------------------------------------------------


class Branch:
    """The moves (number -> token ids) that are left once their first ``depth`` tokens are said."""

    def __init__(self, moves: Mapping[int, Ids], depth: int = 0) -> None:
        self.moves, self.depth = moves, depth

    @cached_property
    def after(self) -> dict[int, Branch]:
        """The tokens that may come next, in the order of their ids, and what each of them leaves."""
        parts: dict[int, dict[int, Ids]] = {}
        for number, ids in self.moves.items():
            parts.setdefault(ids[self.depth], {})[number] = ids
        return {token: Branch(parts[token], self.depth + 1) for token in sorted(parts)}

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """The tokens that may come next."""
        return tuple(self.after)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest move."""
        return max(map(len, self.moves.values()))


def tree(moves: Sequence[str], tokens: Mapping[str, Ids], end: int | None, name: str) -> Branch:
    """The tree of legal ``moves``, whose ``tokens`` the end of sequence closes, where the model ``name`` has one.

    Raises ``ValueError`` for no moves, equal ones, one without tokens, and for those that tokens cannot tell apart.
    """
    if not moves:
        raise ValueError("there is no legal move to choose: a row needs one at least")
    if twice := [move for move, count in Counter(moves).items() if count > 1]:
        raise ValueError(f"the legal move {twice[0]!r} is there twice")
    if silent := [move for move in moves if not tokens[move]]:
        raise ValueError(f"the legal move {silent[0]!r} has no tokens of {name!r}: nobody could say it")
    closed = {number: tokens[move] + (() if end is None else (end,)) for number, move in enumerate(moves)}
    ordered = sorted(closed, key=closed.__getitem__)
    for one, other in pairwise(ordered):
        if closed[other][: len(closed[one])] == closed[one]:
            raise ValueError(
                f"the legal moves {moves[one]!r} and {moves[other]!r} begin with the same tokens of {name!r}, and "
                "nothing tells where the first of them ends"
            )
    return Branch(closed)


@dataclass(slots=True)
class Chosen:
    """The ``move`` that was chosen, by its number, and its tokens up to the last that was drawn: what follows is given
    by the moves. ``allowed`` are the ids that each was drawn among, ``logprobs`` at temperature 1 over these; a token
    that is the only one has 0. No tokens at all where there is one move."""

    move: int = 0
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    allowed: list[tuple[int, ...]] = field(default_factory=list)

    def say(self, token: int, logprob: float, allowed: tuple[int, ...]) -> None:
        self.token_ids.append(token)
        self.logprobs.append(logprob)
        self.allowed.append(allowed)


def walk(
    prompts: Sequence[Ids],
    trees: Sequence[Branch],
    seeds: Sequence[int],
    temperature: float,
    ask: Callable[[list[Ids], list[tuple[int, ...]]], Tensor],
) -> list[Chosen]:
    """One move per row, drawn by its own seed. ``ask`` gives logits as ``next_logits`` does.

    Token t of row i is drawn by the same uniform number as in a completion, over tokens in the order of their ids: the
    order in which a game lists its moves means nothing.
    """
    chance_BT = uniforms(seeds, max(branch.longest for branch in trees)).double()
    chosen, branches = [Chosen() for _ in prompts], list(trees)
    while True:
        for row, one in enumerate(chosen):
            while len(branches[row].moves) > 1 and len(branches[row].ids) == 1:
                (token,) = branches[row].ids
                one.say(token, 0.0, (token,))
                branches[row] = branches[row].after[token]
        asked = [row for row, branch in enumerate(branches) if len(branch.moves) > 1]
        if not asked:
            break
        ids = [branches[row].ids for row in asked]
        logits_BK = ask([(*prompts[row], *chosen[row].token_ids) for row in asked], ids)
        chance_B = chance_BT[asked, [len(chosen[row].token_ids) for row in asked]]
        drawn = draw(logits_BK, chance_B, temperature, 1.0).tolist()
        logprobs = logits_BK.log_softmax(-1).float().tolist()
        for number, (row, place) in enumerate(zip(asked, drawn, strict=True)):
            place = min(place, len(ids[number]) - 1)  # logits that are nan: the learner refuses them
            token = ids[number][place]
            chosen[row].say(token, logprobs[number][place], ids[number])
            branches[row] = branches[row].after[token]
    for one, branch in zip(chosen, branches, strict=True):
        (one.move,) = branch.moves
    return chosen


def readings(prompts: Sequence[Ids], chosen: Sequence[Chosen]) -> list[tuple[int, float, float]]:
    """What the model read for ``walk``, equal beginnings once: for each round of questions how many rows, and the means
    of their new tokens and of those before them."""
    rounds: list[dict[Ids, int]] = []
    for prompt, one in zip(prompts, chosen, strict=True):
        before = 0
        asked = [t for t, ids in enumerate(one.allowed) if len(ids) > 1]
        for number, t in enumerate(asked):
            if number == len(rounds):
                rounds.append({})
            beginning = (*prompt, *one.token_ids[:t])
            rounds[number][beginning] = before
            before = len(beginning)
    return [
        (len(rows), fmean(len(ids) - before for ids, before in rows.items()), fmean(rows.values())) for rows in rounds
    ]
