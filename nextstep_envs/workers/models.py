"""What known models cost: registry kind "model", by "<provider>:<model>".

List prices for standard calls with prompts of up to 200,000 tokens, as reported in spring 2026 and not checked against
the makers' own pages. They change: a price in the pool entry or under `models` of the crew comes first, and is what to
give where money matters. Sizes are 0 where
the maker does not publish them; then the cost "flops" is 0 too.
"""

from __future__ import annotations

from typing import NamedTuple


class ModelPrice(NamedTuple):
    """Price and size of a model.

    Attributes:
        usd_per_mtok_in, usd_per_mtok_out: US dollars for a million prompt / completion tokens.
        params_b: billions of parameters, those active for a token in a mixture of experts; 0 where unknown.
    """

    usd_per_mtok_in: float
    usd_per_mtok_out: float
    params_b: float = 0.0


FREE = ModelPrice(0.0, 0.0)

GPT_4O = ModelPrice(2.5, 10.0)
GPT_4O_MINI = ModelPrice(0.15, 0.6)
GPT_4_1 = ModelPrice(2.0, 8.0)
GPT_4_1_MINI = ModelPrice(0.4, 1.6)
GPT_4_1_NANO = ModelPrice(0.1, 0.4)
GPT_5 = ModelPrice(1.25, 10.0)
GPT_5_MINI = ModelPrice(0.25, 2.0)
GPT_5_NANO = ModelPrice(0.05, 0.4)

CLAUDE_OPUS_4_5 = ModelPrice(5.0, 25.0)
CLAUDE_OPUS_4_6 = ModelPrice(5.0, 25.0)
CLAUDE_SONNET_4_5 = ModelPrice(3.0, 15.0)
CLAUDE_SONNET_4_6 = ModelPrice(3.0, 15.0)
CLAUDE_HAIKU_4_5 = ModelPrice(1.0, 5.0)

GEMINI_2_5_PRO = ModelPrice(1.25, 10.0)
GEMINI_2_5_FLASH = ModelPrice(0.3, 2.5)
GEMINI_2_5_FLASH_LITE = ModelPrice(0.1, 0.4)
