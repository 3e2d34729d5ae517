"""TRL's side of ``trl_step``: GRPOTrainer, whose own loop waits before each step until it is asked for one.

``trl_fp32`` and ``trl`` are its defaults but for the sizes. ``trl_tuned`` is what its user could set to be fastest on a
CPU, found by trial: weights in bfloat16 (autocast casts them again at every token), plain attention, no gradient
checkpointing. A static cache and torch_compile made it no faster; ``--tune`` tries further keys.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from typing import Any

import torch

from benchmarks.models import SIZES, make, prompts
from benchmarks.timing import forget_peak, peak_mib
from benchmarks.workers import Channel

KEYS: dict[str, dict[str, Any]] = {
    "trl_fp32": {"bf16": False},
    "trl": {},
    "trl_tuned": {"bf16": False, "weights": "bfloat16", "gradient_checkpointing": False, "attention": "eager"},
}
"""What each side sets of ``GRPOConfig`` beyond the sizes; ``weights`` and ``attention`` are those of the model that it
is given. Weights in bfloat16 need no autocast around them."""


def length_reward(completions: list[Any], **columns: Any) -> list[float]:
    """Something that differs among siblings."""
    return [float(sum(map(ord, str(completion))) % 7) for completion in completions]


def main() -> None:
    channel, settings = Channel(), json.loads(sys.argv[2])
    torch.set_num_threads(settings["threads"])
    from datasets import Dataset
    from datasets.utils.logging import disable_progress_bar
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    size, (count, group) = SIZES[settings["size"]], settings["branch"]
    model, tokenizer = make(size, settings["mean"])
    keys = KEYS[settings["side"]] | settings["tune"]
    model = model.to(getattr(torch, keys.pop("weights", "float32")))
    if "attention" in keys:
        model.set_attn_implementation(keys.pop("attention"))
    spent = {"generate": 0.0, "tokens": 0.0, "begin": 0.0}

    class TakeTurns(TrainerCallback):
        """Answer a request after its step, then wait for the next one."""

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            total = time.perf_counter() - spent["begin"]
            channel.tell(generate=spent["generate"], update=total - spent["generate"], total=total,
                         tokens=spent["tokens"], peak_mib=peak_mib())  # fmt: skip
            if wait() is None:
                control.should_training_stop = True
            return control

    def wait() -> dict[str, Any] | None:
        asked = channel.wait()
        spent.update(generate=0.0, tokens=0.0, begin=time.perf_counter())
        return asked

    asked = [
        {"prompt": [{"role": "user", "content": prompt}]} for prompt in prompts(count, settings["prompt"], size.vocab)
    ]
    with tempfile.TemporaryDirectory() as folder:
        args = GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=count * group,
            num_generations=group,
            max_completion_length=settings["max_tokens"],
            max_steps=10**6,
            learning_rate=1e-6,
            lr_scheduler_type="constant",
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            **keys,
        )
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=length_reward,
            args=args,
            train_dataset=Dataset.from_list(asked),
            processing_class=tokenizer,
            callbacks=[TakeTurns()],
        )
        inner = trainer._generate_and_score_completions

        def timed(inputs: Any) -> Any:
            started = time.perf_counter()
            batch = inner(inputs)
            spent["generate"] += time.perf_counter() - started
            spent["tokens"] += float(batch["completion_mask"].sum())
            return batch

        trainer._generate_and_score_completions = timed
        dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
        channel.tell(dtype=dtype, keys=keys, baseline_mib=forget_peak(), threads=torch.get_num_threads())
        if wait() is not None:
            trainer.train()


if __name__ == "__main__":
    main()
