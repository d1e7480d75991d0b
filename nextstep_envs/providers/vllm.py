"""vLLM's engine in this process: `workers="vllm:<folder>"`. Its server is `openai` with a `base_url`."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from nextstep_envs.errors import ConfigError, MissingExtraError
from nextstep_envs.providers.local import LocalProvider, Ticket
from nextstep_envs.providers.transformers import (
    ChatTokenizer,
    Model,
    Row,
    check_timeout,
    check_weights,
    library_errors,
    result_of,
    rows_of,
    token_counter,
)
from nextstep_envs.requests import Result

RESERVED = ("model", "tokenizer", "trust_remote_code", "load_format", "skip_tokenizer_init")
_names = itertools.count()  # of the requests of a process: no engine may take a new one for one that failed


class VllmProvider(LocalProvider):
    """A `Provider` over vLLM engines, one for each folder, started when first asked.

    What is read, refused, sampled and metered is as for `TransformersProvider`; random numbers are vLLM's own, from
    each request's seed. vLLM batches by itself: it needs no padding, and rows that have ended make room for others.
    It is told not to report its use to its makers, unless VLLM_NO_USAGE_STATS says otherwise.

    Args:
        engine: arguments of `vllm.LLM`, such as `max_model_len` or `gpu_memory_utilization`.
        max_rows: the most requests in a batch.
        timeout_s: of a batch; a row that is not finished by then is an outage.

    Raises:
        MissingExtraError: vLLM is not installed.
        ConfigError: a bad value; when asked, a folder that does not hold what is needed.
    """

    def __init__(self, engine: Mapping[str, Any] | None = None, max_rows: int = 256, timeout_s: float = 600.0) -> None:
        super().__init__(max_rows)
        self.engine, self.timeout_s = dict(engine or {}), check_timeout(timeout_s)
        if taken := sorted(self.engine.keys() & set(RESERVED)):
            raise ConfigError(f"engine={self.engine!r} must not set {', '.join(taken)}")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # read when the library is imported
        try:
            import vllm  # noqa: F401
        except ModuleNotFoundError as error:
            raise MissingExtraError(error.name or "vllm", "vllm", "provider 'vllm'") from error

    token_counter, check_model = staticmethod(token_counter), staticmethod(check_weights)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.engine, self.max_rows, self.timeout_s)

    def _load(self, folder: str) -> Model:
        from vllm import LLM

        tokenizer = ChatTokenizer(folder)
        check_weights(folder)
        with library_errors(folder):
            llm = LLM(folder, trust_remote_code=False, load_format="safetensors", **self.engine)
        return Model(llm, tokenizer, llm.model_config.max_model_len)

    def _generate(self, model: Model, tickets: Sequence[Ticket]) -> list[Result]:
        rows = rows_of(model, tickets)
        try:
            run(model, rows, time.monotonic() + self.timeout_s)
        except Exception as error:  # an engine that died says so in many ways
            raise RuntimeError(f"vLLM: {type(error).__name__}: {error}") from error
        return [result_of(row, model) for row in rows]

    def _unload(self, model: Model) -> None:
        model.network.llm_engine.engine_core.shutdown()


def run(model: Model, rows: Sequence[Row], deadline: float) -> None:
    """Complete every row that is open, in place; until `deadline`, in seconds of `time.monotonic`."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    engine, stops = model.network.llm_engine, model.tokenizer.stops
    waiting = {str(next(_names)): row for row in rows if row.open(stops)}
    for name, row in waiting.items():
        sampling = SamplingParams(
            temperature=row.chat.temperature,
            max_tokens=row.chat.max_tokens,
            seed=row.ticket.request.seed % (1 << 63),
            stop_token_ids=sorted(stops),
            logprobs=0 if row.chat.logprobs else None,  # of the sampled token alone
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        engine.add_request(name, {"prompt_token_ids": row.prompt.ids}, sampling)
    while waiting:
        for output in engine.step():
            if output.finished and output.request_id in waiting:
                row = waiting.pop(output.request_id)
                written = output.outputs[0]
                row.tokens += written.token_ids
                row.logprobs += [
                    at[token].logprob for at, token in zip(written.logprobs or (), row.tokens, strict=False)
                ]
        late = time.monotonic() > deadline
        for name in [name for name, row in waiting.items() if late or not row.open(stops)]:
            engine.abort_request([name])
            waiting.pop(name).error = "timeout: no answer in time" if late else "cancelled"
