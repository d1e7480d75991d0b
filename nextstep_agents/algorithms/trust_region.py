r"""Steps of constrained policy optimisation (CPO, Achiam et al. 2017, arXiv 1705.10528; MACPO, arXiv 2110.02793).

With $g$ the gradient of the reward surrogate, $b_k$ that of cost surrogate k, $c_k$ the cost above its budget and $H$
the Hessian of the mean KL divergence, the step solves

$$ \max_x g^T x \quad \text{s.t.} \quad c_k + b_k^T x \le 0 \;\; (k = 1 \dots m), \qquad \tfrac12 x^T H x \le \delta. $$

Only the span of $H^{-1} g$ and $H^{-1} b_k$ matters. A basis of it that is orthonormal in $H$ turns the problem into a
linear objective over a ball cut by m half-spaces, in at most m + 1 dimensions, where trying every set of active
constraints is exact. Lengths there are divided by the radius $\sqrt{2 \delta}$, so that no unit of reward or cost
matters. Constraints and trust region hold for the step even where conjugate gradients stopped early: only its
optimality depends on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nextstep_agents.algorithms.update import TrainingError
from nextstep_envs.errors import ConfigError

Floats = npt.NDArray[np.float64]
Product = Callable[[Tensor], Tensor]

MAX_CONSTRAINTS = 10  # every subset is tried
_TOLERANCE = 1e-9  # of a constraint, where the trust region has radius 1


@dataclass(frozen=True)
class Step:
    """A solution.

    Attributes:
        x: change of the parameters, [P].
        case: "reward", no constraint is active, the step is TRPO's; "constrained", some are; "recovery", no step
            within the trust region satisfies all constraints, and the step lowers the violated costs.
        lambda_: dual value of the trust region; 0 in recovery, where there is none.
        nu: dual values of the constraints, float64 [m]: how much reward a unit of budget is worth; 0 in recovery.
        price: what nu would be if every budget were just met, float64 [m]; 0 for no budget. These least-squares
            multipliers, the nu >= 0 that minimises the size of g - sum_k nu_k b_k in H^-1, estimate those of the whole
            problem, whatever the excess and delta.
    """

    x: Tensor
    case: str
    lambda_: float
    nu: Tensor
    price: Tensor


@dataclass(frozen=True)
class Accepted:
    """A step that passed the line search.

    Attributes:
        x: the step, [P].
        tries: how many steps were evaluated, this one included.
        kl, reward_change, cost_changes: what `evaluate` returned for it.
    """

    x: Tensor
    tries: int
    kl: float
    reward_change: float
    cost_changes: Floats


def constrained_step(
    gradient: Tensor,
    cost_gradients: Tensor,
    excess: npt.ArrayLike,
    product: Product,
    delta: float,
    iterations: int = 10,
    tolerance: float = 1e-10,
) -> Step:
    """The best step for a linear reward and linear costs within the trust region.

    In recovery the step is the one that takes off the largest common fraction of all violations, c_k > 0, without
    violating a constraint that holds; with one constraint, -sqrt(2 delta / s) H^-1 b with s = b'H^-1 b. Costs without
    a gradient are left out of that; the step is 0 if no direction lowers all the others.

    Args:
        gradient: g, of the reward, to be climbed, [P].
        cost_gradients: b, [m, P]; m = 0 gives TRPO.
        excess: c, cost minus budget in the units of `cost_gradients`, [m]; -inf for no budget.
        product: H v, of a positive definite H; see `fisher_product`.
        delta: bound on x'Hx / 2.
        iterations, tolerance: see `conjugate_gradient`, which runs once for each gradient.

    Raises:
        ConfigError: shapes do not fit, delta <= 0, or there are more than 10 constraints.
        TrainingError: a gradient or an excess is not finite, or H is not positive along a gradient.
    """
    level = _check(gradient, cost_gradients, excess, delta)
    gradients = torch.cat([gradient[None], cost_gradients])
    basis = _orthonormal_basis(gradients, product, iterations, tolerance)
    radius = math.sqrt(2 * delta)
    reward, *costs = (basis.double() @ gradients.double().T).T.cpu().numpy()
    climb, slope = float(np.linalg.norm(reward)), np.array([np.linalg.norm(cost) for cost in costs])
    normals = np.array([_unit(cost) for cost in costs]).reshape(len(costs), len(reward))
    held = np.where(level > 0, np.inf, -np.inf)  # a cost that no step changes is violated everywhere or nowhere
    level = np.divide(level, radius * slope, out=held, where=slope > 0)
    best = _optimum(_unit(reward), normals, level)
    z = _recovery(normals, level) if best is None else best.z
    x = basis.T @ torch.as_tensor(radius * z).to(basis)
    met = _optimum(_unit(reward), normals, np.where(np.isinf(level), -np.inf, 0.0))
    assert met is not None  # 0 keeps all budgets that are just met

    def units(nu: Floats) -> Tensor:
        return torch.from_numpy(np.divide(climb * nu.clip(0), slope, out=np.zeros_like(slope), where=slope > 0))

    if best is None:
        return Step(x, "recovery", 0.0, units(np.zeros_like(slope)), units(met.nu))
    case = "constrained" if best.active else "reward"
    return Step(x, case, climb * best.lambda_ / radius, units(best.nu), units(met.nu))


def line_search(
    evaluate: Callable[[Tensor], tuple[float, float, npt.ArrayLike]],
    step: Step,
    excess: npt.ArrayLike,
    kl_limit: float,
    beta: float = 0.5,
    attempts: int = 10,
) -> Accepted | None:
    """The first of x, beta x, beta^2 x ... that keeps its promises, or None: then keep the old policy.

    A step is accepted if its KL is at most `kl_limit`, no cost k rises by more than max(-c_k, 0), and it makes
    progress: the reward rises or, as long as a budget is violated, a violated cost falls. (The best step back into the
    budget may have to give up reward even where it is not a recovery.) What is not a number is not accepted.

    Args:
        evaluate: the mean KL, the change of the reward surrogate and those of the cost surrogates [m] at
            old parameters + x.
        step: what `constrained_step` returned.
        excess: c, [m], as for `constrained_step`.
        kl_limit: largest mean KL; 1 to 1.5 delta.
        beta: how much shorter the next step is.
        attempts: steps to try.
    """
    if not 0 < beta < 1 or attempts < 1:
        raise ConfigError(f"beta={beta} must be in (0, 1) and attempts={attempts} at least 1")
    if not bool(step.x.any()):
        return None
    above = _floats(excess)
    allowed, violated = np.maximum(-above, 0.0), above > 0
    for tries in range(attempts):
        x = step.x * beta**tries
        kl, reward_change, changes = evaluate(x)
        cost_changes = _floats(changes)
        if cost_changes.shape != above.shape:
            raise ConfigError(f"evaluate gave {cost_changes.shape} cost changes for an excess of shape {above.shape}")
        progress = bool((cost_changes[violated] < 0).any()) if violated.any() else reward_change > 0
        if kl <= kl_limit and progress and bool((cost_changes <= allowed).all()):
            return Accepted(x, tries + 1, float(kl), float(reward_change), cost_changes)
    return None


def conjugate_gradient(product: Product, b: Tensor, iterations: int = 10, tolerance: float = 1e-10) -> Tensor:
    """Solution x of H x = b for a symmetric positive definite H, [P] (Hestenes and Stiefel 1952).

    Ends after `iterations` products, or once the residual is at most `tolerance` |b|, or along a direction without
    curvature, where the residual left is out of reach of a singular H.

    Raises:
        TrainingError: H has no positive curvature along b itself.
    """
    x, residual = torch.zeros_like(b), b.clone()
    direction, size = residual, residual @ residual
    enough = tolerance**2 * size
    for iteration in range(iterations):
        if size <= enough:
            break
        image = product(direction)
        curvature = direction @ image
        if not curvature > 0:
            if iteration == 0:
                raise TrainingError(f"the curvature of the KL along the gradient is {float(curvature)}; raise damping")
            break
        length = size / curvature
        x = x + length * direction
        residual = residual - length * image
        previous, size = size, residual @ residual
        direction = residual + (size / previous) * direction
    return x


def categorical_kl(old_log_probs: Tensor, new_log_probs: Tensor) -> Tensor:
    """KL(old, new) of categorical distributions, [..., A] to [...]; -inf marks what is impossible under the old one."""
    possible = old_log_probs > -math.inf
    old = torch.where(possible, old_log_probs, 0.0)
    return torch.where(possible, old.exp() * (old - new_log_probs), 0.0).sum(-1)


def gaussian_kl(old_mean: Tensor, old_log_std: Tensor, new_mean: Tensor, new_log_std: Tensor) -> Tensor:
    """KL(old, new) of Gaussians with independent dimensions: means [..., D], deviations [D], to [...]."""
    shift = (new_mean - old_mean) * (-new_log_std).exp()
    narrower = old_log_std - new_log_std
    return (0.5 * ((2 * narrower).exp() + shift**2 - 1) - narrower).sum(-1)


def fisher_product(mean_kl: Callable[[], Tensor], parameters: Iterable[Tensor], damping: float = 0.1) -> Product:
    """The function v -> (H + damping I) v, with H the Hessian of `mean_kl` at the present parameters, [P] to [P].

    For a KL between the old policy, detached, and the present one, where both are equal, H is the Fisher information.
    The graph of the KL's gradient is built once and kept; a product is one pass back through it.
    """
    tensors = list(parameters)
    gradient = flat(_gradients(mean_kl(), tensors, create_graph=True))

    def product(v: Tensor) -> Tensor:
        return flat(_gradients(gradient @ v.detach(), tensors)).detach() + damping * v

    return product


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """Parameters, or their gradients, as one vector [P]; a copy."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def assign(parameters: Iterable[Tensor], vector: Tensor) -> None:
    """Copy the vector [P] into the parameters, in the order of `flat`; they share no memory with it."""
    tensors = list(parameters)
    sizes = [tensor.numel() for tensor in tensors]
    if vector.shape != (sum(sizes),):
        raise ConfigError(f"a vector of shape {tuple(vector.shape)} does not fit {sum(sizes)} parameters")
    with torch.no_grad():
        for tensor, piece in zip(tensors, vector.split(sizes), strict=True):
            tensor.copy_(piece.view_as(tensor))


@dataclass(frozen=True)
class _Point:
    """The best point of the unit ball where the `active` constraints hold with equality, and its dual values."""

    z: Floats
    active: tuple[int, ...]
    lambda_: float
    nu: Floats


def _optimum(direction: Floats, normals: Floats, level: Floats) -> _Point | None:
    """Solve max direction.z s.t. level + normals z <= 0 and |z| <= 1; None if that is impossible.

    The optimum is the best point of the face where its active constraints hold with equality, and those can be chosen
    linearly independent (Caratheodory): it is among the best points of all such faces. A feasible one with dual values
    >= 0 is the optimum; there is none only if nothing but the boundary of the feasible set is left, and then the best
    feasible one is.
    """
    if (level > 1 + _TOLERANCE).any():
        return None
    near = np.flatnonzero(level > -1)  # the others hold in the whole ball
    best: _Point | None = None
    for active in _subsets(near.tolist(), len(direction)):
        point = _best_of_face(direction, normals, level, active)
        if point is None or (level[near] + normals[near] @ point.z > _TOLERANCE).any():
            continue
        if (point.nu >= -_TOLERANCE).all():
            return point
        if best is None or direction @ point.z > direction @ best.z:
            best = point
    return best


def _subsets(items: Sequence[int], largest: int) -> Iterator[tuple[int, ...]]:
    for size in range(min(len(items), largest) + 1):
        yield from combinations(items, size)


def _best_of_face(direction: Floats, normals: Floats, level: Floats, active: tuple[int, ...]) -> _Point | None:
    """From the face's point nearest to 0, as far as the ball reaches along the part of `direction` in the face."""
    index = list(active)
    q, r = np.linalg.qr(normals[index].T)  # the normals are q r, and q is orthonormal
    if (np.abs(np.diag(r)) < _TOLERANCE).any():
        return None
    nearest = -q @ np.linalg.solve(r.T, level[index])
    room = 1 - float(nearest @ nearest)
    if room < -_TOLERANCE:
        return None
    along = direction - q @ (q.T @ direction)
    along = along - q @ (q.T @ along)  # a short one has rounding errors that lead out of the face
    gain, half_chord = float(np.linalg.norm(along)), math.sqrt(max(room, 0.0))
    if gain < 1e-10:  # the whole face is equally good
        gain, along = 0.0, np.zeros_like(along)
    z = nearest + half_chord * _unit(along)
    lambda_ = gain / max(half_chord, _TOLERANCE)
    nu = np.zeros(len(level))
    nu[index] = np.linalg.solve(r, q.T @ (direction - lambda_ * z))
    return _Point(z, active, lambda_, nu)


def _recovery(normals: Floats, level: Floats) -> Floats:
    """The z in the unit ball with normals z <= -u level for all violated constraints and the largest u.

    Where u level <= 0 is all that can be had, 0. What holds keeps holding.
    """
    violated = (level > 0) & np.isfinite(level)
    z = np.zeros(normals.shape[1])
    if not violated.any():
        return z
    level = np.where(np.isinf(level), -np.inf, level)
    low, top = 0.0, 1 / float(level[violated].max())
    high = fraction = top
    while high - low > 1e-9 * top:
        point = _optimum(np.zeros_like(z), normals, np.where(violated, fraction * level, level))
        if point is None:
            high = fraction
        else:
            low, z = fraction, point.z
        fraction = (low + high) / 2
    return z


def _orthonormal_basis(gradients: Tensor, product: Product, iterations: int, tolerance: float) -> Tensor:
    """Rows [p, P] that span H^-1 of the gradients [n, P] and are orthonormal in H (Gram-Schmidt); p <= n."""
    noise = 100 * torch.finfo(gradients.dtype).eps
    basis, images = gradients[:0], gradients[:0]  # q and H q
    for gradient in gradients:
        unit = gradient / gradient.abs().max().clamp(min=torch.finfo(gradient.dtype).tiny)  # its square is not 0
        rest = unit - (basis @ unit) @ images
        if rest.norm() <= noise * unit.norm():
            continue
        row = conjugate_gradient(product, rest, iterations, tolerance)
        row = row - (images @ row) @ basis
        image = product(row)
        scale = (row @ image).rsqrt()
        basis, images = torch.cat([basis, scale * row[None]]), torch.cat([images, scale * image[None]])
    return basis


def _gradients(value: Tensor, parameters: Sequence[Tensor], create_graph: bool = False) -> tuple[Tensor, ...]:
    """Gradients of a value whose graph is kept; 0 for a parameter it does not depend on."""
    return torch.autograd.grad(
        value, parameters, retain_graph=True, create_graph=create_graph, allow_unused=True, materialize_grads=True
    )


def _unit(vector: Floats) -> Floats:
    size = np.linalg.norm(vector)
    return vector / size if size > 0 else np.zeros_like(vector)


def _floats(values: npt.ArrayLike) -> Floats:
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)


def _check(gradient: Tensor, cost_gradients: Tensor, excess: npt.ArrayLike, delta: float) -> Floats:
    """The excess as an array, if everything fits."""
    level = _floats(excess)
    if gradient.ndim != 1 or cost_gradients.shape != (*level.shape, len(gradient)) or level.ndim != 1:
        shapes = f"{tuple(gradient.shape)}, {tuple(cost_gradients.shape)}, {level.shape}"
        raise ConfigError(f"gradient, cost_gradients and excess have shapes {shapes}; they must be [P], [m, P], [m]")
    if len(level) > MAX_CONSTRAINTS:
        raise ConfigError(
            f"{len(level)} constraints are too many: all their subsets are tried; {MAX_CONSTRAINTS} at most"
        )
    if not 0 < delta < math.inf:
        raise ConfigError(f"delta={delta} must be positive and finite")
    for name, gradients in (("gradient", gradient), ("cost_gradients", cost_gradients)):
        if not bool(torch.isfinite(gradients).all()):
            raise TrainingError(f"{name} has entries that are not finite; check the advantages")
    if not (level < math.inf).all():  # NaN too
        raise TrainingError(f"excess={level.tolist()} must be numbers; did no episode end in this batch?")
    return level
