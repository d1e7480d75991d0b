"""An actor for vectors: a masked categorical or a Gaussian policy for each agent, on multilayer perceptrons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nextstep_agents.batch import Batch
from nextstep_agents.policies.spaces import AgentSpaces
from nextstep_envs.errors import ConfigError

ILLEGAL = -1e9  # logit of an illegal action: probability 0 in float32, and no NaN in the entropy
CLIP = 5.0  # normalised observations beyond this are outliers


@dataclass(frozen=True)
class MLPSettings:
    """Shape of the networks.

    Attributes:
        hidden: units of each hidden layer of actor and critic; () makes the actor linear, hence tabular on one-hot
            states.
        share: one network for all agents of a team, told who acts, instead of one each.
        normalise: whether observations are normalised by their running mean and deviation; None: where they are not
            already bounded by 1.
        log_std: of a continuous action at the start, in units of half its range.
    """

    hidden: tuple[int, ...] = (64, 64)
    share: bool = False
    normalise: bool | None = None
    log_std: float = -0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))  # JSON and YAML know lists only
        if any(isinstance(units, bool) or not isinstance(units, int) or units < 1 for units in self.hidden):
            raise ConfigError(f"hidden={self.hidden!r} must hold whole numbers >= 1")


def perceptron(
    inputs: int, hidden: Sequence[int], outputs: int, gain: float, generator: torch.Generator
) -> nn.Sequential:
    """Linear layers with tanh between them, orthogonal weights (gain sqrt(2), the last `gain`) and zero biases."""
    sizes = [inputs, *hidden, outputs]
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(zip(sizes, sizes[1:], strict=False)):
        layer = nn.utils.skip_init(nn.Linear, before, after)  # which would draw from the global generator
        last = i == len(sizes) - 2
        nn.init.orthogonal_(layer.weight, gain if last else math.sqrt(2), generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer] if last else [layer, nn.Tanh()]
    return nn.Sequential(*layers)


class Normaliser(nn.Module):
    """Running mean and deviation of observations (Chan et al. 1979); before the first update it changes nothing."""

    count: Tensor
    mean: Tensor
    square: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        for name, value in (("count", torch.zeros(())), ("mean", torch.zeros(size)), ("square", torch.zeros(size))):
            self.register_buffer(name, value.double())

    def forward(self, vectors: Tensor) -> Tensor:
        """The vectors [..., size], normalised and clipped."""
        if self.count == 0:
            return vectors
        deviation = (self.square / self.count).sqrt().clamp(min=1e-2)
        return ((vectors - self.mean.float()) / deviation.float()).clamp(-CLIP, CLIP)

    def update(self, vectors: Tensor) -> None:
        """Take in more vectors [n, size]."""
        n = len(vectors)
        if n == 0:
            return
        mean = vectors.double().mean(0)
        square = ((vectors.double() - mean) ** 2).sum(0)
        shift, total = mean - self.mean, self.count + n
        self.square += square + shift**2 * self.count * n / total
        self.mean += shift * n / total
        self.count.fill_(float(total))


class Actor(nn.Module):
    """The policies of all agents. A single agent is a team of one.

    Args:
        agents: their spaces, in order.
        settings: shape of the networks.
        generator: of the initial weights.
    """

    def __init__(self, agents: Sequence[AgentSpaces], settings: MLPSettings, generator: torch.Generator) -> None:
        super().__init__()
        self.agents, self.settings = tuple(agents), settings
        alike = len({(a.size, a.outputs, a.discrete) for a in agents}) == 1
        if settings.share and not alike:
            raise ConfigError("share=True, but the agents' spaces differ; use share=False")
        self.shared = settings.share and len(agents) > 1
        nets = [
            perceptron(a.size + self.shared * len(agents), settings.hidden, a.outputs, 0.01, generator)
            for a in (agents[:1] if self.shared else agents)
        ]
        self.nets = nn.ModuleList(nets)
        self.log_stds = nn.ParameterDict(
            {
                str(i): nn.Parameter(torch.full((a.outputs,), settings.log_std))
                for i, a in enumerate(agents)
                if not a.discrete
            }
        )
        normalised = [settings.normalise if settings.normalise is not None else not a.bounded for a in agents]
        self.normalisers = nn.ModuleList(
            Normaliser(a.size) if wanted else nn.Identity() for a, wanted in zip(agents, normalised, strict=True)
        )

    def parameters_of(self, agent: int) -> list[nn.Parameter]:
        """What one agent's policy consists of."""
        net = self.nets[0 if self.shared else agent]
        return [*net.parameters(), *([] if self.agents[agent].discrete else [self.log_stds[str(agent)]])]

    def outputs(self, agent: int, vectors: Tensor, mask: Tensor) -> Tensor:
        """Masked logits [n, actions], or means [n, dimensions]."""
        inputs = self.normalisers[agent](vectors)
        if self.shared:
            who = torch.zeros(len(inputs), len(self.agents))
            who[:, agent] = 1.0
            inputs = torch.cat([inputs, who], 1)
        outputs: Tensor = self.nets[0 if self.shared else agent](inputs)
        return torch.where(mask, outputs, ILLEGAL) if self.agents[agent].masked else outputs

    def distribution(self, agent: int, vectors: Tensor, mask: Tensor) -> torch.distributions.Distribution:
        """Of one agent's actions."""
        outputs = self.outputs(agent, vectors, mask)
        if self.agents[agent].discrete:
            return torch.distributions.Categorical(logits=outputs, validate_args=False)
        deviation = self.log_stds[str(agent)].exp().expand_as(outputs)
        normal = torch.distributions.Normal(outputs, deviation, validate_args=False)
        return torch.distributions.Independent(normal, 1, validate_args=False)

    @torch.no_grad()
    def sample(self, agent: int, vectors: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Actions (int64 [n], or float32 [n, D]) and their log-probabilities [n]."""
        outputs = self.outputs(agent, vectors, mask)
        if self.agents[agent].discrete:
            logp = outputs.log_softmax(1)
            action = torch.multinomial(logp.exp(), 1, generator=generator)
            return action[:, 0], logp.gather(1, action)[:, 0]
        action = outputs + self.log_stds[str(agent)].exp() * torch.randn(outputs.shape, generator=generator)
        return action, self.distribution(agent, vectors, mask).log_prob(action)

    @torch.no_grad()
    def best(self, agent: int, vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest actions, as `sample` gives them, and 0 in place of log-probabilities."""
        outputs = self.outputs(agent, vectors, mask)
        action = outputs.argmax(1) if self.agents[agent].discrete else outputs
        return action, torch.zeros(len(outputs))

    def log_probs(
        self, batch: Batch, temperature: float = 1.0, entropy_gradient: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy of every decision of every agent, [B, K * agents]; 0 where none was taken."""
        n = len(self.agents)
        found = [self.agent_log_probs(batch, i) for i in range(n)]
        logp, entropy = (torch.stack(parts, 2).flatten(1) for parts in zip(*found, strict=True))
        return logp, entropy if entropy_gradient else entropy.detach()

    def agent_log_probs(self, batch: Batch, agent: int) -> tuple[Tensor, Tensor]:
        """As `log_probs` for one agent, [B, K]."""
        taken, logits_or_mean, action = self.decisions(batch, agent)
        spaces = self.agents[agent]
        if spaces.discrete:
            every = logits_or_mean.log_softmax(1)
            logp, entropy = every.gather(1, action[:, None])[:, 0], -(every.exp() * every).sum(1)
        else:
            log_std = self.log_stds[str(agent)]
            z = (action - logits_or_mean) * (-log_std).exp()
            constant = log_std.sum() + 0.5 * spaces.outputs * math.log(2 * math.pi)
            logp = -0.5 * (z**2).sum(1) - constant
            entropy = (constant + 0.5 * spaces.outputs).expand_as(logp)
        zero = logp.new_zeros(taken.shape)
        return zero.masked_scatter(taken, logp), zero.masked_scatter(taken, entropy)

    def decisions(self, batch: Batch, agent: int) -> tuple[Tensor, Tensor, Tensor]:
        """Which decisions an agent took, bool [B, K]; its outputs there [N, outputs]; and its actions [N] or [N, D]."""
        n = len(self.agents)
        taken = batch.action.view(len(batch), -1, n)[:, :, agent]
        vectors = batch.inputs[f"observation.{agent}"][taken]
        mask = batch.inputs[f"mask.{agent}"][taken]
        if self.agents[agent].discrete:
            action = batch.tokens.view(len(batch), -1, n)[:, :, agent][taken]
        else:
            action = batch.inputs[f"action.{agent}"][taken]
        return taken, self.outputs(agent, vectors, mask), action

    def take_in(self, batch: Batch) -> None:
        """Let the normalisers see the observations of a round, after it was learned from."""
        for i, normaliser in enumerate(self.normalisers):
            if isinstance(normaliser, Normaliser):
                taken = batch.action.view(len(batch), -1, len(self.agents))[:, :, i]
                normaliser.update(batch.inputs[f"observation.{i}"][taken])


class Critic(nn.Module):
    """Values of all signals (the reward, then every constrained cost) from what all agents see together.

    Args:
        actor: whose normalisers it shares.
        signals: how many values.
        settings: shape of the network.
        generator: of the initial weights.
    """

    def __init__(self, actor: Actor, signals: int, settings: MLPSettings, generator: torch.Generator) -> None:
        super().__init__()
        size = sum(a.size for a in actor.agents)
        self.net = perceptron(size, settings.hidden or (64,), signals, 1.0, generator)
        self._normalisers = [actor.normalisers[i] for i in range(len(actor.agents))]

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Values [n, signals] of what every agent sees, [n, F_i] each."""
        seen = [normalise(view) for normalise, view in zip(self._normalisers, views, strict=True)]
        values: Tensor = self.net(torch.cat(seen, 1))
        return values
