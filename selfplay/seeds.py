"""Seeds by path: every random number comes from (seed, step, table, turn), so that a replay is the same to the byte."""

from __future__ import annotations

from hashlib import blake2b


def derive(seed: int, *path: int | str) -> int:
    """A 63-bit seed for one place in the run: ``derive(seed, "step", 7)``. Equal paths give equal seeds.

    63 bits, so that it fits a signed 64-bit tensor and every generator of numpy, torch and ``random``.
    """
    text = "/".join(map(str, (seed, *path)))
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 1
