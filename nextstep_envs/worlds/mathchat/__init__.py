"""Mathematical problems: GSM8K."""

from nextstep_envs.worlds.mathchat.gsm8k import GSM8K as GSM8K
