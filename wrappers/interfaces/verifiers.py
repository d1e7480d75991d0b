"""A verifiers environment over any id with a text interface. Checked with verifiers 0.4 (`verifiers.v1`).

The environment plays the user: its messages are the user's turns, the model's replies are actions. It is a plugin of
the name "nextstep-verifiers": `vf.load_environment`, its command line and prime-rl find it by that.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, cast

from nextstep_envs.errors import MissingExtraError
from nextstep_envs.seeding import derive, stream
from wrappers.interfaces.session import Session, make_text_env

try:
    import httpx
    import verifiers.v1 as vf
    from openai import AsyncOpenAI
    from pydantic import Field
    from verifiers.v1.dialects.chat import message_to_wire
except ImportError as error:
    raise MissingExtraError("verifiers", "verifiers", "wrappers.interfaces.verifiers") from error

PLUGIN = "nextstep-verifiers"


class NextStepTasksetConfig(vf.TasksetConfig):
    """Which episodes there are; `--env.taskset.*` on the command line."""

    env: str = "NextStep/WebShop-Workflow-v0"
    """An id with a text interface."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the environment, such as `split`."""
    cost_weight: float = 0.0
    """Price of one unit of `info["cost"]`, taken off the reward."""
    seed: int = 0
    """Of the tasks' own seeds."""


class NextStepData(vf.TaskData):
    """What starts an episode again, but for the sample, which every attempt has of its own (`trace.info`)."""

    env: str
    kwargs: dict[str, Any]
    cost_weight: float
    seed: int


class NextStepTask(vf.Task[NextStepData, vf.State, vf.TaskConfig]):
    """One task; the reward is recorded by the environment."""


class NextStepTaskset(vf.Taskset[NextStepTask, NextStepTasksetConfig]):
    """Tasks without end, one for each seed: `taskset.take(n)`, or `--select.limit n`."""

    INFINITE = True

    def load(self) -> Iterator[NextStepTask]:
        """One task after the other."""
        config, rng = self.config, stream(self.config.seed, "tasks")
        for i in itertools.count():
            data = NextStepData(
                name=f"{config.env}#{i}",
                env=config.env,
                kwargs=config.kwargs,
                cost_weight=config.cost_weight,
                seed=rng.randrange(1 << 31),
            )
            yield NextStepTask(data, config.task)


class ChatHarnessConfig(vf.HarnessConfig):
    """No settings of its own."""


class ChatHarness(vf.Harness[ChatHarnessConfig]):
    """Plain conversation: one call of the model for each message, made in this process.

    An orchestrator needs neither tools nor a shell, hence no program in a sandbox as with the other harnesses.
    """

    APPENDS_SYSTEM_PROMPT = True
    SUPPORTS_RESUME = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(
        self,
        ctx: vf.ModelContext,
        trace: vf.Trace,
        runtime: vf.Runtime,
        endpoint: str,
        secret: str,
        mcp_urls: dict[str, str],
        data: vf.TaskData,
    ) -> vf.ProgramResult:
        """Ask the model for the next message."""
        system, prompt = self.resolve_prompt(data)
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(map(_wire, prompt or ()))
        if system:
            messages.insert(0, {"role": "system", "content": system})
        # How long an answer may take is for the limits of the rollout to say.
        transport = httpx.AsyncClient(verify=_certificates(), timeout=None)
        async with AsyncOpenAI(base_url=endpoint, api_key=secret, http_client=transport) as client:
            await client.chat.completions.create(model=ctx.model, messages=cast(Any, messages))
        return vf.ProgramResult(exit_code=0, stdout="", stderr="")


class NextStepEnvConfig(vf.EnvConfig):
    """Who plays: `--env.orchestrator.*`."""

    orchestrator: vf.AgentConfig = vf.AgentConfig(runtime=vf.SubprocessConfig())


class NextStepEnv(vf.Env[NextStepEnvConfig]):
    """An episode with a model as orchestrator.

    Reward `episode_reward`: of the whole episode, less the weighted cost. Metrics: `cost`, each entry of the cost
    terms as `cost/<name>`, `decisions`, `invalid_actions`. A model that has run out of turns or tokens has finished:
    its work is judged as it stands. An outage fails the episode: it has no reward, and is run again if retries are
    allowed; so does a model that cannot be reached.

    Attempts at a task differ by their sample, drawn from the trace's id, so that no two are alike wherever they run.
    """

    async def run(self, task: vf.Task, agents: vf.Agents) -> None:
        """Play one episode."""
        data = cast(NextStepData, task.data)
        env = make_text_env(data.env, data.cost_weight, **data.kwargs)
        session, invalid = Session(env), 0
        try:
            async with agents.orchestrator.interaction(task) as interaction:
                trace = interaction.trace
                sample = derive(data.seed, "sample", trace.id) % (1 << 31)
                message = await asyncio.to_thread(session.reset, data.seed, None, sample)
                trace.info |= {"task_id": session.info["task_id"], "sample": sample}
                while not session.over:
                    segment = await interaction.turn(message)
                    if segment.terminated:
                        break
                    # Workers may have to be waited for: other episodes go on meanwhile.
                    message = await asyncio.to_thread(session.step, segment.last_reply)
                    invalid += session.invalid
                session.leave()
                if session.masked:
                    raise RuntimeError(f"outage: {session.info['error']['message']}")
        finally:
            env.close()
        if not trace.ok:
            return  # the model could not be reached: that is no result either
        trace.record_reward("episode_reward", session.reward)
        terms = {f"cost/{name}": value for name, value in session.cost_terms.items()}
        trace.record_metrics({"cost": session.cost, "decisions": session.steps, "invalid_actions": invalid, **terms})


def verifiers_env(
    env: str = "NextStep/WebShop-Workflow-v0", *, cost_weight: float = 0.0, seed: int = 0, **kwargs: Any
) -> NextStepEnv:
    """The verifiers environment of an id.

    Args:
        env: with a text interface.
        cost_weight: price of one unit of `info["cost"]`.
        seed: of the tasks' own seeds.
        **kwargs: of the environment.

    Raises:
        ConfigError: an argument is wrong.
    """
    make_text_env(env, cost_weight, **kwargs).close()  # a wrong argument is an error now, not in every episode
    taskset = NextStepTasksetConfig(id=PLUGIN, env=env, kwargs=kwargs, cost_weight=cost_weight, seed=seed)
    return NextStepEnv(NextStepEnvConfig(taskset=taskset))


@cache
def _certificates() -> ssl.SSLContext:
    # To load them anew for every message would take longer than most calls.
    return ssl.create_default_context()


def _wire(message: Any) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], message_to_wire(message))
