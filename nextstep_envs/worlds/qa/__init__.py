"""Questions with options: MMLU-Pro."""

from nextstep_envs.worlds.qa.mmlu_pro import MMLUPro as MMLUPro
