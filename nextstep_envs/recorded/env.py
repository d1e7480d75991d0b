"""The single environment of question routing."""

from __future__ import annotations

from typing import Any

from nextstep_envs.env import OrchestrationEnv


class QuestionRoutingEnv(OrchestrationEnv[Any]):
    """Decide whom to ask about a question: recorded answers of real models, or generated ones.

    ## Action space
    `interface="vector"`: `Discrete(W + 1)`: ask worker i, or (the last index) end. `interface="text"`: `Prompt`, JSON
    `{"agent": "<worker>"}` or `{"finish": true}`. Each worker can be asked once; who has no recorded answer to the
    question is masked. An illegal action asks nobody, uses one step, and `info["invalid_action"]` is True.

    ## Observation space
    `"vector"`: `Dict(observation=Box float32, action_mask=Box int8 [W + 1])`: the hashed question, its category, the
    budget left, how the answers stand, and for each worker price, skill, answer and text (see `QuestionFeatures`;
    `feature_names` names the entries). `"text"`: `Prompt`: the question and the workers, then each answer with its
    reasoning, never cut.

    ## Reward
    1 at the end if the final answer is right, else 0. The final answer is the one most workers gave
    (`answer="vote"`), the one with the largest sum of confidences ("weighted"), or the last one ("last"); ties go to
    the answer given last.

    ## Cost
    `cost="usd"` by default: what the calls cost at the pool's prices; `cost_limits` holds a mean per episode for
    trainers and is not enforced.

    ## Episode end
    Terminated when the orchestrator ends, or when the budget is exhausted (`info["budget_exhausted"]`). Never truncated
    with recorded workers.

    ## Starting state
    A question of the split, each as likely as the others, or `options["task_id"]`. Recorded answers have no noise:
    `options["sample"]` is only a label.

    Args:
        world: "mmlu_pro" or "gsm8k".
        protocol: "question_routing".
        workers: "recorded" (of `data_dir`; without it generated ones), "recorded:<folder>", a pool's YAML file, or live
            models as for `OrchestrationEnv`.
        pool_size: workers drawn per episode; default all.

    Further arguments are those of the world (`data_dir`, `pool`, `answer`, `splits`, `folds`, `fold`,
    `held_out_categories`, `held_out_models`, `skills`; see `QuestionWorld`), of the vector observation
    (`question_encoder`, `question_buckets`, `text_buckets`, `estimates`; see `QuestionRouting`), and `interface`,
    `split`, `budget`, `cost`, `cost_limits`, `reward` and `render_mode` as for `OrchestrationEnv`.

    ## Version history
    v0: first version.
    """

    @property
    def data_source(self) -> str:
        """Whose answers these are: "recorded" (real models') or "generated" (made-up workers')."""
        return str(self.setup.world.data_source)  # type: ignore[attr-defined]
