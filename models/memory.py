"""Free memory, and how many positions of decoding fit into it."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedConfig

_SHARE = 0.4
"""Of the free memory, what a batch in flight may take: compaction holds two copies, and the update wants the rest."""
LEAST, MOST = 4_096, 1 << 20


def free_memory(device: torch.device) -> int:
    """Free bytes on ``device``; on CUDA with what the allocator has set aside and does not use."""
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + idle
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    return min(_available(), _left_to_group())


def batch_tokens(config: PreTrainedConfig, itemsize: int, free: int) -> int:
    """Positions (rows x columns) in flight that fit into ``free`` bytes: a power of two, so that a little more or
    less free memory gives the same batches.

    A position costs its keys and values, twice while rows are compacted, and a share of its row's logits, which are
    held about six times (as float32, probabilities, their sum, ...), by rows of at least 64 columns.
    """
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    states = 2 * text.num_hidden_layers * heads * width * itemsize
    per_position = 2 * states + 6 * 4 * text.vocab_size / 64 + 8 * text.hidden_size * itemsize
    budget = LEAST
    while budget < MOST and 2 * budget * per_position <= _SHARE * free:
        budget *= 2
    return budget


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocation has failed: CUDA's has a class of its own, a CPU's only its message."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _available() -> int:
    """What the system says can be had without swapping."""
    table = Path("/proc/meminfo")
    if not table.is_file():
        return 4 << 30  # not Linux: a laptop has this much
    lines = dict(line.split(":", 1) for line in table.read_text(encoding="ascii").splitlines())
    return int(lines["MemAvailable"].split()[0]) << 10


def _left_to_group() -> int:
    """What a container's limit leaves; without a limit, more than there is."""
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if not limit.is_file() or not used.is_file() or (text := limit.read_text(encoding="ascii").strip()) == "max":
        return 1 << 62
    return max(0, int(text) - int(used.read_text(encoding="ascii")))
