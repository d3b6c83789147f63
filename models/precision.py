"""Numbers that networks compute in, by the names of recipes and options."""

from __future__ import annotations

import torch

from deeplesion_miner.errors import ConfigError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def dtype_of(precision: str) -> torch.dtype:
    """The type of a name. ConfigError for a precision that there is not."""
    if precision not in DTYPES:
        raise ConfigError(f"precision {precision!r}: there are {', '.join(DTYPES)}")
    return DTYPES[precision]
