"""What can be said of vLLM in a configuration: ``model.vllm``, checked key by key before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any


class VllmError(RuntimeError):
    """vLLM is absent, does not fit this machine, or refused its options; in one sentence."""


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """``max_model_len``: most tokens of prompt and completion together (null: the model's own).
    ``gpu_memory_utilization``: the share of the GPU's memory for vLLM's weights and key-value cache; the trainer has
    the rest. ``kv_cache_gib``: the cache's size itself, in GiB (null: from the share on a GPU, 1 on a CPU).
    ``max_num_seqs``: most rows decoded at a time. ``enforce_eager``: no compiled code and no CUDA graphs (null: on a
    CPU only). ``sleep``: lend vLLM's memory to every update. ``tolerance``: the probe's gap, in nats, above which a
    transfer of weights is refused (null: 1e-3 in float32, 1 in bfloat16). Raises ``VllmError``.
    """

    max_model_len: int | None = None
    gpu_memory_utilization: float = 0.4
    kv_cache_gib: float | None = None
    max_num_seqs: int = 256
    enforce_eager: bool | None = None
    sleep: bool = False
    tolerance: float | None = None

    def __post_init__(self) -> None:
        share = self.gpu_memory_utilization
        if not 0 < share < 1:
            raise VllmError(f"model.vllm.gpu_memory_utilization={share} must be above 0 and below 1")
        for key in ("max_model_len", "kv_cache_gib", "max_num_seqs", "tolerance"):
            value = getattr(self, key)
            if value is not None and not value > 0:
                raise VllmError(f"model.vllm.{key}={value} must be above 0")

    @classmethod
    def of(cls, keys: Mapping[str, Any] | None) -> VllmOptions:
        """From a configuration's node. Raises ``VllmError`` that names the key and the nearest right one."""
        keys, known = dict(keys or {}), [field.name for field in fields(cls)]
        for key in keys:
            if key not in known:
                close = get_close_matches(str(key), known, n=1)
                raise VllmError(
                    f"model.vllm.{key} is unknown{f' (did you mean {close[0]}?)' if close else ''}: {', '.join(known)}"
                )
        return cls(**keys)
