"""A reward model as a verifier: any sequence-classification checkpoint with one label, in batches of equal cost."""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from selfplay.deadline import check

Features = dict[str, list[int]]
"""One encoded case: ``input_ids`` and, for models that take them, ``token_type_ids``, each of length T."""


class RewardModel:
    """Scores a case by a reward model's logit for ``answer`` as the reply to ``query``.

    score = ``scale`` * logit + ``shift``, and the logistic function of that when ``sigmoid`` is set; a logit that is
    not finite is nan ("cannot tell"). The logit does not depend on the batch that a case is in, up to the rounding
    of a float32 matrix product (bfloat16 on CUDA), and not at all on the order of the cases: equal cases are scored
    once, and batches are made of the sorted rest.

    A tokenizer with a chat template encodes the case as a user and an assistant message, with the control tokens in
    the players' own text turned into plain text: an answer cannot close its message and praise itself in the next
    one. Without a template the case is encoded as a pair of sentences.

    A case longer than ``max_length`` tokens loses the middle: what remains holds the start of the query and the end
    of the answer, with the template's closing tokens, at which a decoder's logit is read. Sentence pairs lose the
    end of the longer sentence. ``cut`` counts both.

    A call ends with ``DeadlinePassed`` between two batches once its time is up.
    """

    runs_in: ClassVar[Literal["main"]] = "main"

    def __init__(
        self,
        path: str,
        scale: float = 1.0,
        shift: float = 0.0,
        sigmoid: bool = False,
        batch_tokens: int = 8192,
        max_length: int = 2048,
        device: str = "auto",
        revision: str | None = None,
    ) -> None:
        """Load ``path``, a folder or the id of a model on the hub (at ``revision``); ``batch_tokens`` bounds rows x
        longest row.

        The weights are loaded here and not by the first call, so that a wrong path shows before the run starts.
        Raises ``ValueError`` where there is no whole reward model with one label.
        """
        if batch_tokens < 1 or max_length < 2:
            raise ValueError(f"batch_tokens={batch_tokens} must be at least 1 and max_length={max_length} at least 2.")
        import torch  # costs seconds; whoever only looks at the configuration should not wait for it

        name = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = torch.device(name if device == "auto" else device)
        dtype = torch.bfloat16 if self._device.type == "cuda" else torch.float32
        self._tokenizer, model = _load(path, dtype, revision)
        self._model = model.to(self._device).eval()
        self._scale, self._shift, self._sigmoid, self._batch_tokens = scale, shift, sigmoid, batch_tokens
        self._config = model.config.get_text_config()  # where the model looks up its padding id
        positions = getattr(self._config, "max_position_embeddings", None) or max_length
        self._max_length = int(min(max_length, positions, self._tokenizer.model_max_length))
        pad = self._config.pad_token_id
        self._pad = pad if pad is not None and 0 <= pad < self._config.vocab_size else None  # some write -1 for none
        self._erased = _spellable(self._tokenizer)
        self._counts: Counter[str] = Counter()

    def __call__(self, cases: Sequence[Mapping[str, str]]) -> list[float]:
        """One score per case; reads the slots ``query`` and ``answer``."""
        told = [(case["query"], case["answer"]) for case in cases]
        distinct = sorted(set(told))
        rows = [self._encode(query, answer) for query, answer in distinct]
        scores = dict.fromkeys(distinct, math.nan)
        for batch in _batches([len(row["input_ids"]) for row in rows], self._batch_tokens):
            check()
            for index, logit in zip(batch, self._logits([rows[index] for index in batch]), strict=True):
                scores[distinct[index]] = self._score(logit)
        self._counts["not_finite"] += sum(math.isnan(score) for score in scores.values())
        return [scores[pair] for pair in told]

    def metrics(self) -> dict[str, float]:
        """Since the last call: distinct cases that were ``cut`` to ``max_length``, and those ``not_finite`` (nan)."""
        metrics = {name: float(self._counts[name]) for name in ("cut", "not_finite")}
        self._counts.clear()
        return metrics

    def _encode(self, query: str, answer: str) -> Features:
        query, answer = (_without(self._erased, text) for text in (query, answer))
        if self._tokenizer.chat_template is None:
            encoded = self._tokenizer(query, answer, split_special_tokens=True, verbose=False)
            if len(encoded["input_ids"]) > self._max_length:
                self._counts["cut"] += 1
                encoded = self._tokenizer(
                    query, answer, truncation="longest_first", max_length=self._max_length, split_special_tokens=True
                )
            return {name: encoded[name] for name in ("input_ids", "token_type_ids") if name in encoded}
        messages = [{"role": "user", "content": query}, {"role": "assistant", "content": answer}]
        options = {"sanitize_control_tokens": True} if _can_sanitize(self._tokenizer) else {}
        ids = list(self._tokenizer.apply_chat_template(messages, **options)["input_ids"])
        if len(ids) > self._max_length:
            self._counts["cut"] += 1
            head = self._max_length // 2
            ids = ids[:head] + ids[head - self._max_length :]
        return {"input_ids": ids}

    def _logits(self, rows: Sequence[Features]) -> list[float]:
        """The logits of one batch, padded on the right to its longest row."""
        import torch

        longest = max(len(row["input_ids"]) for row in rows)
        pad = self._padding(rows)
        fill = {"input_ids": pad, "token_type_ids": 0}
        inputs = {
            name: torch.tensor([row[name] + [fill[name]] * (longest - len(row[name])) for row in rows])
            for name in rows[0]
        }
        mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in rows])
        inputs["attention_mask"] = mask
        self._config.pad_token_id = pad
        with torch.inference_mode():
            output = self._model(**{name: tensor.to(self._device) for name, tensor in inputs.items()})
        return cast("list[float]", output.logits[:, 0].float().tolist())

    def _padding(self, rows: Sequence[Features]) -> int:
        """The id to pad with. A decoder's logit is read at the last token that is not this id.

        The model's own configuration decides. Where it names none, the model was trained to be read at the last
        token whatever that is, so we take an id that the batch does not hold: a stand-in like the end-of-sequence
        token would shift the reading to the token before it.
        """
        if self._pad is not None:
            return self._pad
        used = {token for row in rows for token in row["input_ids"]}
        return next(token for token in range(len(used) + 1) if token not in used)

    def _score(self, logit: float) -> float:
        value = self._scale * logit + self._shift
        if not math.isfinite(value):
            return math.nan
        # The tanh form of the logistic function: exp(-value) would overflow for large negative values.
        return 0.5 * (1.0 + math.tanh(0.5 * value)) if self._sigmoid else value


def _load(path: str, dtype: Any, revision: str | None) -> tuple[Any, Any]:
    """Tokenizer and model; every way in which a folder can be incomplete ends in one sentence that names it."""
    import transformers

    folder = Path(path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ValueError(f"the reward model's folder {folder} has no config.json; it was not written to its end.")
    elif folder.exists() or folder.is_absolute() or path.startswith((".", "~")) or len(folder.parts) > 2:
        names = [other.name for other in folder.parent.iterdir()] if folder.parent.is_dir() else []
        near = get_close_matches(folder.name, names, n=1)
        raise ValueError(f"there is no reward model folder {folder}{f'; did you mean {near[0]}?' if near else '.'}")
    source = str(folder) if folder.is_dir() else path
    transformers.utils.logging.disable_progress_bar()  # the run has a screen of its own
    library = cast(Any, transformers)  # its factories are not typed
    with _one_sentence(path):
        config = library.AutoConfig.from_pretrained(source, revision=revision)
    if config.num_labels != 1:  # asked before the weights are read: most language models answer 2
        raise ValueError(f"the model {path} has {config.num_labels} labels; a reward model has exactly one.")
    with _one_sentence(path):
        tokenizer = library.AutoTokenizer.from_pretrained(source, revision=revision)
        model, report = library.AutoModelForSequenceClassification.from_pretrained(
            source, config=config, dtype=dtype, revision=revision, output_loading_info=True
        )
    missing = sorted(report["missing_keys"])
    if missing:
        # transformers fills them with random numbers and goes on: a reward of noise that looks like one.
        raise ValueError(f"the model {path} lacks {len(missing)} trained weights ({missing[0]}, ...): no reward model.")
    return tokenizer, model


@contextmanager
def _one_sentence(path: str) -> Generator[None]:
    """Turn what the loaders raise, often a page of advice, into its first line and the model's name."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        message = f"the reward model {path} cannot be loaded, a file may be missing or cut short: {reason}"
        raise ValueError(message) from error


def _can_sanitize(tokenizer: Any) -> bool:
    return "sanitize_control_tokens" in inspect.signature(tokenizer.apply_chat_template).parameters


def _spellable(tokenizer: Any) -> tuple[str, ...]:
    """The control tokens that must be taken out of the players' text, longest first; for most tokenizers none.

    Plain encoding makes ordinary text of a control token, except where the tokenizer's vocabulary can spell it, or
    where this version of transformers cannot encode part of a chat plainly.
    """
    template = tokenizer.chat_template or ""
    plain = not template or _can_sanitize(tokenizer)
    erased: list[str] = []
    for number, token in tokenizer.added_tokens_decoder.items():
        text = token.content
        if not text.strip() or not (token.special or text in template):
            continue
        if not plain or number in tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True):
            erased.append(text)
    return tuple(sorted(erased, key=len, reverse=True))


def _without(erased: Sequence[str], text: str) -> str:
    """``text`` with every token of ``erased`` blanked out, also those that only appear once others are gone."""
    text = text.encode("utf-8", "replace").decode()  # half of a surrogate pair: tokenizers take UTF-8 only
    while any(token in text for token in erased):
        for token in erased:
            text = text.replace(token, " ")
    return text


def _batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices in batches of rows x longest row <= ``budget``; a row may exceed it alone, empty rows are left out.

    Sorted by length, so that little of a batch is padding; longest first, so that memory runs out at once or never.
    """
    batch: list[int] = []
    longest = 0
    for index in sorted((i for i, length in enumerate(lengths) if length), key=lambda i: -lengths[i]):
        if batch and longest * (len(batch) + 1) > budget:
            yield batch
            batch = []
        longest = longest if batch else lengths[index]
        batch.append(index)
    if batch:
        yield batch
