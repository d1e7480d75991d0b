"""A Hugging Face model in this process: `workers="transformers:<folder>"`."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nextstep_envs.errors import ConfigError, MissingExtraError, check_choice
from nextstep_envs.providers.local import LocalProvider, Ticket
from nextstep_envs.providers.thinking import OPEN, split_thinking
from nextstep_envs.requests import ChatReply, ChatRequest, Message, Result
from nextstep_envs.seeding import stream
from nextstep_envs.types import Usage

DTYPES = ("auto", "float32", "bfloat16", "float16")
PROBE = (Message("system", "s"), Message("user", "u"), Message("assistant", "a"), Message("user", "u"))


class Prompt(NamedTuple):
    """A conversation as a model reads it.

    Attributes:
        ids: its tokens.
        thinks: whether the template has opened the thinking, so that the completion begins inside.
    """

    ids: list[int]
    thinks: bool


class ChatTokenizer:
    """The tokenizer and chat template of a model folder.

    Attributes:
        stops: the tokens that end an answer.

    Args:
        folder: in Hugging Face format.

    Raises:
        MissingExtraError: transformers is not installed.
        ConfigError: no such folder, no tokenizer in it, no chat template, or one that knows no system message.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        if not (Path(folder) / "config.json").is_file():
            raise ConfigError(f"{folder!r} has no config.json; give a folder in Hugging Face format")
        with library_errors(folder):
            from transformers import AutoTokenizer

            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if not self._tokenizer.chat_template:
            raise ConfigError(
                f"the tokenizer in {folder!r} has no chat template: take an instruction-tuned model, or put the "
                "template that it was tuned with beside it, as chat_template.jinja"
            )
        self.encode(PROBE)
        self.stops = frozenset((*_named_stops(Path(folder)), self._tokenizer.eos_token_id)) - {None}

    def encode(self, messages: Sequence[Message]) -> Prompt:
        """What the model reads before it answers."""
        said = [{"role": message.role, "content": message.content} for message in messages]
        with library_errors(self.folder, "chat template"):
            text: Any = self._tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        # The template has written the special tokens.
        return Prompt(self._ids(text), text.rstrip().endswith(OPEN))

    def count(self, text: str) -> int:
        """Tokens of a text by itself."""
        return len(self._ids(text))

    def reply(self, prompt: Prompt, tokens: Sequence[int], logprobs: Sequence[float] = ()) -> ChatReply:
        """The reply in a completion's tokens, which may end with a stop token."""
        stopped = bool(tokens) and tokens[-1] in self.stops
        text = self._decode(tokens[: len(tokens) - stopped], special=False)
        answer, thinking = split_thinking(OPEN + text if prompt.thinks else text)
        pieces = tuple((self._decode([token]), logprob) for token, logprob in zip(tokens, logprobs, strict=False))
        return ChatReply(answer, thinking, finish="stop" if stopped else "length", logprobs=pieces)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def _decode(self, tokens: Sequence[int], special: bool = True) -> str:
        text: Any = self._tokenizer.decode(
            list(tokens), skip_special_tokens=not special, clean_up_tokenization_spaces=False
        )
        return str(text)


def _named_stops(folder: Path) -> Sequence[int | None]:
    """What a folder's configuration names as the ends of an answer."""
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        named = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
        if named is not None:
            return named if isinstance(named, list) else [named]
    return ()


def token_counter(folder: str) -> Callable[[str], int]:
    """Counts tokens as the model in a folder does; errors as for `ChatTokenizer`."""
    return ChatTokenizer(folder).count


def check_weights(folder: str) -> None:
    """Raise `ConfigError` unless a folder has weights as safetensors, the one format that cannot hold code."""
    if not any(Path(folder).glob("*.safetensors")):
        raise ConfigError(
            f"{folder!r} has no *.safetensors: weights in other formats are not read, since loading them can run code. "
            "Convert them where you trust them: AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)"
        )


class Model(NamedTuple):
    """What a folder holds; prompt and completion fit in `window` tokens."""

    network: Any
    tokenizer: ChatTokenizer
    window: float


@dataclass
class Row:
    """One answer in the making.

    Attributes:
        ticket: what was asked.
        prompt: as tokens.
        tokens: of the completion, as far as it is.
        logprobs: their log-probabilities, where asked for.
        error: why there will be no answer; "" if there will.
    """

    ticket: Ticket
    prompt: Prompt
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    error: str = ""

    def __post_init__(self) -> None:
        self.chat: ChatRequest = self.ticket.request.payload
        self.rng = stream(self.ticket.request.seed, "tokens")

    def open(self, stops: Collection[int]) -> bool:
        """Whether another token is wanted."""
        ended = len(self.tokens) >= self.chat.max_tokens or (bool(self.tokens) and self.tokens[-1] in stops)
        return not (ended or self.error or self.ticket.future.cancelled())


class TransformersProvider(LocalProvider):
    """A `Provider` over Hugging Face causal language models, loaded from local folders when first asked.

    Weights are read from safetensors only, and no code that a folder brings is run. A batch is padded on the left and
    decoded with a key-value cache; rows that have ended leave it. Temperature 0 takes the most probable token, any
    other samples the model's own distribution (no top-p, top-k or penalties, whatever the folder recommends), each row
    with random numbers from its request's seed alone. Log-probabilities are those of the model at temperature 1; they
    and the metered completion include the token that ends it.

    A prompt that leaves no room for `max_tokens` in the model's window is an outage, as services make it one: set
    `context_tokens` of the workers.

    Args:
        device: as torch names it; None for the first GPU if there is one, else the CPU.
        dtype: "float32", "bfloat16", "float16", or "auto" for that of the folder.
        threads: that torch may use on the CPU for one operation; None: as torch decides (`OMP_NUM_THREADS`). With
            several processes on one machine, give each its share: threads that compete are slower than one alone.
        max_rows: the most requests in a batch. Memory grows with rows times (longest prompt + longest completion).
        timeout_s: of a batch; a row that is not finished by then is an outage.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        ConfigError: a bad value; when asked, a folder that does not hold what is needed.
    """

    def __init__(
        self,
        device: str | None = None,
        dtype: str = "auto",
        threads: int | None = None,
        max_rows: int = 16,
        timeout_s: float = 600.0,
    ) -> None:
        super().__init__(max_rows)
        check_choice("dtype", dtype, DTYPES)
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise ConfigError(f"threads={threads!r} must be a whole number >= 1, or None")
        with library_errors(""):
            import torch

            try:
                torch.device(device or "cpu")
            except RuntimeError as error:
                raise ConfigError(f"device={device!r}: {error}") from error
        self.device, self.dtype, self.threads, self.timeout_s = device, dtype, threads, check_timeout(timeout_s)

    token_counter, check_model = staticmethod(token_counter), staticmethod(check_weights)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.device, self.dtype, self.threads, self.max_rows, self.timeout_s)

    def _load(self, folder: str) -> Model:
        import torch

        tokenizer = ChatTokenizer(folder)
        check_weights(folder)
        with library_errors(folder):
            from transformers import AutoModelForCausalLM

            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=self.dtype,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
        network, info = loaded
        if wrong := sorted(map(str, (*info["missing_keys"], *info["mismatched_keys"]))):
            raise ConfigError(f"the weights in {folder!r} do not fit its config.json: {', '.join(wrong[:5])}")
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        window = getattr(network.config.get_text_config(), "max_position_embeddings", None) or math.inf
        return Model(network.eval().to(device), tokenizer, window)

    def _generate(self, model: Model, tickets: Sequence[Ticket]) -> list[Result]:
        import torch

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        rows = rows_of(model, tickets)
        with torch.inference_mode():
            decode(model, rows, time.monotonic() + self.timeout_s)
        return [result_of(row, model) for row in rows]

    def _unload(self, model: Model) -> None:
        """Its memory goes with the last reference."""


def decode(model: Model, rows: Sequence[Row], deadline: float) -> None:
    """Complete every row that is open, in place; until `deadline`, in seconds of `time.monotonic`."""
    import torch

    open_ = [row for row in rows if row.open(model.tokenizer.stops)]
    if not open_:
        return
    device = model.network.device
    width = max(len(row.prompt.ids) for row in open_)
    padding = [width - len(row.prompt.ids) for row in open_]
    tokens = torch.tensor([[0] * pad + row.prompt.ids for pad, row in zip(padding, open_, strict=True)], device=device)
    mask = (torch.arange(width) >= torch.tensor(padding)[:, None]).long().to(device)
    position = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = None
    while True:
        output = model.network(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = output.past_key_values
        for row, logits in zip(open_, output.logits[:, -1].float().cpu(), strict=True):
            _extend(row, logits)
            if row.open(model.tokenizer.stops) and time.monotonic() > deadline:
                row.error = f"timeout: no answer in time, only {len(row.tokens)} tokens"
        kept = [i for i, row in enumerate(open_) if row.open(model.tokenizer.stops)]
        if not kept:
            return
        if len(kept) < len(open_):
            index = torch.tensor(kept, device=device)
            cache.batch_select_indices(index)
            open_, mask, position = [open_[i] for i in kept], mask[index], position[index]
        tokens = torch.tensor([row.tokens[-1:] for row in open_], device=device)
        mask = torch.cat([mask, mask.new_ones(len(open_), 1)], 1)
        position = position[:, -1:] + 1


def _extend(row: Row, logits: Any) -> None:
    """Append a token to a row, by its own rules and random numbers; `logits` are [vocabulary], on the CPU."""
    import torch

    token = int(logits.argmax())
    if logits[token].isnan():
        row.error = f"the model computed NaN after {len(row.tokens)} tokens; use another dtype"
        return
    if row.chat.temperature:
        cumulative = (logits.double() / row.chat.temperature).softmax(-1).cumsum(-1)
        drawn = row.rng.random() * cumulative[-1:]
        token = min(int(torch.searchsorted(cumulative, drawn, right=True)), len(logits) - 1)
    row.tokens.append(token)
    if row.chat.logprobs:
        row.logprobs.append(float(logits[token] - logits.logsumexp(-1)))


def rows_of(model: Model, tickets: Sequence[Ticket]) -> list[Row]:
    """A row for each ticket; one that does not fit the model's window has an error."""
    rows = [Row(ticket, model.tokenizer.encode(ticket.request.payload.messages)) for ticket in tickets]
    for row in rows:
        asked = len(row.prompt.ids) + row.chat.max_tokens
        if asked > model.window:
            row.error = (
                f"refused: prompt and max_tokens have {asked} tokens, the window of {row.chat.model!r} "
                f"{model.window}; set context_tokens={model.window} of the workers"
            )
    return rows


def result_of(row: Row, model: Model) -> Result:
    """What became of a row."""
    usage = Usage(len(row.prompt.ids), len(row.tokens), calls=1)
    if row.error:
        return Result(row.ticket.request.id, error=row.error, waste=usage if row.tokens else Usage())
    reply = model.tokenizer.reply(row.prompt, row.tokens, row.logprobs)
    return Result(row.ticket.request.id, reply, usage)


def check_timeout(timeout_s: float) -> float:
    """Return it, or raise `ConfigError`."""
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not timeout_s > 0:
        raise ConfigError(f"timeout_s={timeout_s!r} must be a number > 0")
    return timeout_s


@contextmanager
def library_errors(folder: str, what: str = "model folder") -> Iterator[None]:
    """Turn what the libraries raise into our errors."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "transformers", "agents", "a model in this process") from error
    except ConfigError:
        raise
    except Exception as error:  # each library, template and file format has exceptions of its own
        told = f"{type(error).__name__}: {error}"
        if "trust_remote_code" in told:
            told = "it needs code of its own, which is not run here"
        raise ConfigError(f"{what} {folder!r} cannot be used: {told}") from error
