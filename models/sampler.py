"""What samples: the weights in the precision that decodes, what they have read lately, and how much fits at once."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from models.attention import NAME as SPARRING
from models.choices import Branch, Chosen, next_logits, next_logprobs, walk
from models.decode import batches, decode
from models.graphs import Graphs
from models.lora import follow, has_lora, merged
from models.memory import is_out_of_memory
from models.prefixes import Ids, Prefixes
from models.scoring import LOGITS, can_share
from models.speech import Sample, Sampling

log = logging.getLogger(__name__)

T = TypeVar("T")


class Sampler:
    """Draws completions from a model whose ``version`` says when its weights have changed.

    In float32 the masters themselves decode; in a lower precision, or with adapters, a plain copy that follows them.
    ``batch_tokens`` bounds the positions (rows x columns) in flight; it is halved for good where memory does not
    suffice. ``prefix_mib`` is what may be kept of prompts that were read, until the weights change or ``forget`` is
    called; a sampler that does not ``remember`` shares what the prompts of one call have in common, and no more.
    """

    def __init__(
        self,
        master: PreTrainedModel,
        dtype: torch.dtype,
        *,
        batch_tokens: int,
        prefix_mib: int,
        pad_id: int,
        remembers: bool = True,
    ) -> None:
        self._master, self._dtype, self._pad_id = master, dtype, pad_id
        self.batch_tokens, self._remembers = batch_tokens, remembers
        self._prefixes = Prefixes(prefix_mib << 20) if prefix_mib else None
        self._shares = master.device.type == "cpu" and can_share(master)
        self._graphs = Graphs() if master.device.type == "cuda" else None
        self._decoder: PreTrainedModel | None = None
        self._version = -1

    def sample(self, prompts: Sequence[Ids], seeds: Sequence[int], sampling: Sampling, version: int) -> list[Sample]:
        """One completion per prompt, in order."""
        model = self.model(version)
        # Short prompts first, so that a batch has little padding.
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), prompts[i]))
        arguments = [prompts[i] for i in order], [seeds[i] for i in order], sampling

        def run() -> list[Sample]:
            return decode(
                model,
                *arguments,
                pad_id=self._pad_id,
                budget=self.batch_tokens,
                prefixes=self._prefixes,
                graphs=self._graphs,
                shared=self._shares and model.config._attn_implementation == SPARRING,
            )

        samples = self._fitting(run, max(map(len, prompts)) + sampling.max_tokens)
        placed = dict(zip(order, samples, strict=True))
        return [placed[row] for row in range(len(prompts))]

    def weigh(self, prompts: Sequence[Ids], replies: Sequence[int], version: int) -> list[list[float]]:
        """The log-probabilities of the tokens ``replies`` as the next one after each prompt, at temperature 1."""
        model = self.model(version)

        def run() -> list[list[float]]:
            found: dict[int, list[float]] = {}
            for rows in batches([len(prompt) for prompt in prompts], 1, self.batch_tokens):
                logprobs_BK = next_logprobs(model, [prompts[r] for r in rows], replies, self._pad_id, self._prefixes)
                found |= zip(rows, logprobs_BK.tolist(), strict=True)
            return [found[row] for row in range(len(prompts))]

        return self._fitting(run, max(map(len, prompts), default=0))

    def choose(
        self, prompts: Sequence[Ids], trees: Sequence[Branch], seeds: Sequence[int], temperature: float, version: int
    ) -> list[Chosen]:
        """One of the moves of ``trees[i]`` after each prompt."""
        model = self.model(version)
        at_once = max(1, LOGITS // model.config.get_text_config().vocab_size)

        def ask(wanted: list[Ids], ids: list[tuple[int, ...]]) -> Tensor:
            logits_BK = torch.full((len(wanted), max(map(len, ids))), -torch.inf, dtype=torch.float64)
            rows_of: dict[Ids, list[int]] = {}
            for row, prompt in enumerate(wanted):
                rows_of.setdefault(prompt, []).append(row)
            unique = sorted(rows_of, key=lambda prompt: (len(prompt), prompt))
            for batch in batches([len(prompt) for prompt in unique], 1, self.batch_tokens):
                for start in range(0, len(batch), at_once):
                    rows = [row for number in batch[start : start + at_once] for row in rows_of[unique[number]]]
                    part = [wanted[row] for row in rows], [ids[row] for row in rows]
                    found = next_logits(model, *part, self._pad_id, self._prefixes)
                    logits_BK[rows, : found.shape[1]] = found
            return logits_BK

        longest = max(len(prompt) + branch.longest for prompt, branch in zip(prompts, trees, strict=True))
        return self._fitting(lambda: walk(prompts, trees, seeds, temperature, ask), longest)

    def model(self, version: int) -> PreTrainedModel:
        """The model that decodes, brought up to date."""
        self._master.eval()
        if self._version != version:
            self.forget()
        adapted = has_lora(self._master)
        if self._dtype == torch.float32 and not adapted:
            self._version = version
            return self._master
        if self._decoder is None:
            self._decoder = merged(self._master) if adapted else copy.deepcopy(self._master).requires_grad_(False)
            # The parameters only: rotary frequencies are buffers, and rounded ones turn far positions by whole angles.
            for parameter in self._decoder.parameters():
                parameter.data = parameter.data.to(self._dtype)
        elif self._version != version and adapted:
            follow(self._decoder, self._master)
        elif self._version != version:
            with torch.no_grad():
                for copied, master in zip(self._decoder.parameters(), self._master.parameters(), strict=True):
                    copied.copy_(master)
        self._version = version
        return self._decoder

    def forget(self) -> None:
        """Drop what was kept of prompts."""
        if self._prefixes:
            self._prefixes.clear()

    def _fitting(self, run: Callable[[], T], row: int) -> T:
        """``run`` with smaller batches until it fits: every row's result is the same in any batch."""
        if not self._remembers:
            self.forget()
        while True:
            try:
                return run()
            except RuntimeError as error:
                if not is_out_of_memory(error) or self.batch_tokens < 2 * row:
                    raise
            # Outside the handler, whose traceback holds the tensors of the failed attempt.
            self.forget()
            self.batch_tokens //= 2
            log.warning("out of memory: batches of %d positions from now on", self.batch_tokens)
            if self._master.device.type == "cuda":
                torch.cuda.empty_cache()
