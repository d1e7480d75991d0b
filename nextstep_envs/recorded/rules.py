"""Routing on questions: one action asks a worker, or ends; the answers are counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nextstep_envs.episode import Decision, Episode, State
from nextstep_envs.errors import ConfigError, check_choice
from nextstep_envs.ledger import estimate_tokens, total_allowance
from nextstep_envs.protocols.base import Mask
from nextstep_envs.protocols.messages import INVALID, amounts
from nextstep_envs.protocols.parsing import parse_json
from nextstep_envs.recorded.answers import NONE
from nextstep_envs.recorded.board import Board, Limits, first_seen, legal
from nextstep_envs.recorded.encoder import question_embeddings
from nextstep_envs.recorded.estimates import Table, estimates
from nextstep_envs.recorded.features import QuestionFeatures
from nextstep_envs.recorded.hashing import hash_texts
from nextstep_envs.recorded.pool import PREFIX
from nextstep_envs.requests import Actor
from nextstep_envs.types import NANO, Budget, Step, StepRecord
from nextstep_envs.workers.base import WorkerSpec
from nextstep_envs.worlds.base import World
from nextstep_envs.worlds.qa.votes import Vote, decide
from nextstep_envs.worlds.qa.world import QuestionWorld

FORMAT = (
    'Answer in JSON: {"agent": "<worker>"} asks that worker, who sees the question and nothing else; '
    '{"finish": true} ends. Nobody can be asked twice. '
)
HOW = {
    "vote": "The final answer is the one that most workers gave; of those tied, the one given last.",
    "weighted": "The final answer is the one with the largest sum of confidences; of those tied, the one given last.",
    "last": "The final answer is the one given last.",
}
UNKNOWN_SKILL = 0.5
ENCODERS = ("hash", "minilm")


class QuestionRouting:
    """Rules of Routing on questions: ask one worker after the other, see what it says, stop.

    Vector actions: the index of a worker, in the order of the pool; the last index ends. Text actions: JSON
    `{"agent": "<worker>"}`; `{"finish": true}` ends. A worker sees the question and nothing else: a recorded answer
    does not depend on what others said. Each can be asked once. Masked are those who are absent, were asked, have no
    recorded answer to the question, are held out, or whose dearest answer (prompt, and `Budget.call_tokens` for each
    sample) would not fit what is left.

    Args:
        pool: every worker there is, in slot order.
        budget: of one episode; by default the limits of the pool of the data.
        cost_limits: per episode, in raw units, by cost name.
        question_buckets: size of the hashed question in the vector observation; 0 for none.
        text_buckets: size of the hashed text of each worker; 0 for none.
        estimates: add to the vector observation how likely each worker is right, by a linear model of question and
            answers seen so far that is fitted on this environment's training questions (see `recorded.estimates`).
        question_encoder: what the vector observation shows of the question's words: "hash", or "minilm": a sentence
            embedding of 384 numbers, whatever `question_buckets` says (see `recorded.encoder`).
    """

    name = "routing"
    default_budget = Budget(steps=12, tokens=60_000, calls=12, call_tokens=4096)
    features: QuestionFeatures

    def __init__(
        self,
        pool: tuple[WorkerSpec, ...],
        budget: Budget,
        cost_limits: Mapping[str, float],
        question_buckets: int = 256,
        text_buckets: int = 16,
        estimates: bool = False,
        question_encoder: str = "hash",
    ) -> None:
        for name, size in (("question_buckets", question_buckets), ("text_buckets", text_buckets)):
            if isinstance(size, bool) or not isinstance(size, int) or size < 0:
                raise ConfigError(f"{name}={size!r} must be a whole number >= 0")
        self.pool, self.budget, self.cost_limits = pool, budget, cost_limits
        self.slots = {spec.worker_id: i for i, spec in enumerate(pool)}
        self.n_actions = len(pool) + 1
        self.total = total_allowance(budget)
        if not isinstance(estimates, bool):
            raise ConfigError(f"estimates={estimates!r} must be True or False")
        check_choice("question_encoder", question_encoder, ENCODERS)
        self.question_buckets, self.text_buckets, self.estimates = question_buckets, text_buckets, estimates
        self.question_encoder = question_encoder
        self._prices = np.array([_prices(spec) for spec in pool])

    def adapt(self, world: World) -> World:
        """The same world; it must be one of questions."""
        if not isinstance(world, QuestionWorld):
            raise ConfigError(f"protocol 'question_routing' needs a world of questions, not {world.name!r}")
        self.world, answers = world, world.answers
        columns = {model.name: i for i, model in enumerate(answers.models)}
        # Which column of the data set answers for a slot; NONE where a live model does.
        self.columns = np.array([columns.get(spec.model.removeprefix(PREFIX), NONE) for spec in self.pool])
        samples = [1 if w == NONE else answers.models[w].samples_per_answer for w in self.columns]
        self.completion = np.array(samples) * self.budget.call_tokens
        skills = np.array([[dict(s.skills).get(c, UNKNOWN_SKILL) for s in self.pool] for c in answers.categories])
        self.features = QuestionFeatures(
            answers, list(self.slots), skills, self.budget, self.total, world.rule, self.question_buckets,
            self.text_buckets, self.row, self._estimated() if self.estimates else None,
            question_embeddings(answers) if self.question_encoder == "minilm" else None,
        )  # fmt: skip
        return world

    def _estimated(self) -> Table:
        if (self.columns == NONE).any():
            raise ConfigError("estimates=True is for recorded workers: nothing is known of how live models answer")
        world, columns = self.world, self.columns
        table = estimates(world.answers, world.split_of == "train", world.can_ask)
        return table[:, np.concatenate([[0], columns + 1])][:, :, columns]

    def episode(self, world: World, workers: Mapping[str, Actor]) -> Episode:
        """An episode under these rules, waiting for its first reset."""
        return Episode(world, self, workers, self.budget)

    def action_of(self, label: str) -> str:
        """What an agent does (for rewards that tell actions apart)."""
        return "answer"

    # -- where an episode stands -----------------------------------------------------------------------------------

    def seat(self, board: Board, i: int, row: int, pool: Sequence[WorkerSpec]) -> None:
        """Write a question and the workers present into row i of a board, which was cleared."""
        board.question[i] = row
        can = self.world.can_ask[row, self.columns] | (self.columns == NONE)
        if pool is self.pool:
            board.present[i], board.prices[i] = can, self._prices
            return
        for spec in pool:
            slot = self.slots[spec.worker_id]
            board.present[i, slot], board.prices[i, slot] = can[slot], _prices(spec)

    def limits(self, row: int) -> Limits:
        """What bounds the calls about a question, [W]."""
        models, asked = self.world.answers.models, estimate_tokens(self.world.answers.prompts[row])
        prompt = [asked if w == NONE else models[w].prompt_tokens for w in self.columns]
        return Limits(np.array(prompt), self.completion)

    def row(self, state: State) -> tuple[Board, Limits]:
        """A board of one row."""
        board, row = Board.empty(1, len(self.pool), self.text_buckets), self.world.answers.row[state.task.task_id]
        self.seat(board, 0, row, state.pool)
        records = state.records()
        votes = [self.vote_of(record) for record in records]
        codes = first_seen(["" if vote is None else vote.label for vote in votes])
        for place, (record, vote, code) in enumerate(zip(records, votes, codes, strict=True), start=1):
            slot, used = self.slots[record.step.worker_id], record.usage
            board.order[0, slot], board.answer[0, slot] = place, code
            board.weight[0, slot] = 0 if vote is None else vote.weight
            board.prompt[0, slot], board.completion[0, slot] = used.prompt_tokens, used.completion_tokens
            board.calls[0, slot], board.usd_nano[0, slot] = used.calls, used.usd_nano
            if self.text_buckets:
                board.words[0, slot] = hash_texts((record.output,), self.text_buckets)[0]
        board.steps[0], board.invalid[0], board.over[0] = state.steps_used(), state.invalid, bool(state.end)
        return board, self.limits(row)

    def vote_of(self, record: StepRecord) -> Vote | None:
        """The last answer that a worker gave; None for none."""
        votes = [vote for tool in record.tools if (vote := self.world.vote(tool.call)) is not None]
        return votes[-1] if votes else None

    def mask(self, state: State) -> Mask:
        """int8 [n_actions]: 1 for workers that can be asked; ending is always possible."""
        mask: Mask = legal(*self.row(state), self.budget, self.total)[0]
        return mask

    # -- what an action means --------------------------------------------------------------------------------------

    def decode(self, state: State, action: Any) -> Decision:
        """The step behind a vector index or a JSON text; what makes no sense is an invalid action."""
        index = self._read(action) if isinstance(action, str) else int(action)
        if isinstance(index, str):
            return Decision(invalid=index)
        if not 0 <= index < self.n_actions:
            return Decision(invalid=f"action {index} is outside 0..{self.n_actions - 1}")
        if index == self.n_actions - 1:
            return Decision(finish=True)
        worker = self.pool[index].worker_id
        if not self.mask(state)[index]:
            asked = any(step.worker_id == worker for step in state.steps)
            why = "was asked already" if asked else "cannot be asked about this question, or costs more than is left"
            return Decision(invalid=f"worker {worker} {why}")
        n = len(state.steps)
        return Decision((Step(n, state.task.prompt, worker, (n - 1,) if n else ()),))

    def may_start(self, state: State, step: Step) -> bool:
        """Always."""
        return True

    def interrupt(self, state: State, fresh: Sequence[StepRecord]) -> str:
        """Never."""
        return ""

    def _read(self, text: str) -> int | str:
        value = parse_json(text)
        if not isinstance(value, Mapping):
            return "no JSON object was found"
        if value.get("finish") is True:
            return self.n_actions - 1
        name = value.get("agent")
        slot = self.slots.get(name) if isinstance(name, str) else None
        return f'"agent" must be one of {", ".join(self.slots)}' if slot is None else slot

    # -- what the orchestrator reads -------------------------------------------------------------------------------

    def format_text(self) -> str:
        """How to answer, for the first message."""
        return FORMAT + HOW[self.world.rule]

    def message(self, state: State) -> str:
        """The next message: the question and the workers at first, then what the last decision brought."""
        if not (state.steps or state.invalid or state.end):
            return self._opening(state)
        fresh = [self._result(record) for i in state.fresh if (record := state.calls[i].record)]
        return "\n".join([*self._notice(state), *fresh, *self._closing(state), ""])

    def transcript(self, state: State) -> str:
        """The whole episode as text."""
        results = [f"-> {record.step.worker_id}\n{self._result(record)}" for record in state.records()]
        return "\n".join([self._opening(state).rstrip(), *results, *self._notice(state), *self._closing(state)])

    def _opening(self, state: State) -> str:
        (board, limits), world = self.row(state), self.world
        row = int(board.question[0])
        category = int(world.answers.category[row])
        lines = []
        for spec in state.pool:
            slot = self.slots[spec.worker_id]
            if board.present[0, slot]:
                price, prompt = f"${spec.usd_per_mtok_in:g}/{spec.usd_per_mtok_out:g}", limits.prompt[slot]
                skill = self.features.skills[category, slot]
                said = f"{price} per Mtok, prompt {prompt} tokens; skill in this category {skill:.2f}"
                lines.append(f"- {spec.worker_id}: {spec.description} ({said})")
        return "\n".join(
            [
                f"Task: {state.task.prompt}",
                f"Category: {world.answers.categories[category]} ({world.data_source} answers)",
                "Workers:",
                *lines,
                f"Budget: {amounts(self.budget.steps, self.total)}",
                self.format_text(),
                "",
            ]
        )

    def _result(self, record: StepRecord) -> str:
        if record.error:
            return f"{record.step.worker_id}: stopped ({record.error})"
        vote, used = self.vote_of(record), record.usage
        answer = "gave no answer" if vote is None else f"answered {vote.label}"
        return f"{record.step.worker_id} {answer} ({used.tokens} tokens, ${used.usd_nano / NANO:.6f}):\n{record.output}"

    def _notice(self, state: State) -> list[str]:
        return [f"{INVALID}{state.notice}."] if state.notice else []

    def _closing(self, state: State) -> list[str]:
        if state.end:
            return [f"The episode is over ({state.end})."]
        votes = [vote for record in state.records() if (vote := self.vote_of(record)) is not None]
        stands = f"Final answer as things stand: {decide(votes, self.world.rule) or 'none'}."
        left = amounts(max(self.budget.steps - state.steps_used(), 0), self.total.minus(state.spent))
        return [stands, f"Left: {left}"]


def _prices(spec: WorkerSpec) -> tuple[float, float]:
    return spec.usd_per_mtok_in, spec.usd_per_mtok_out
