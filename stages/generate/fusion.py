"""Fusion: one generator from two or more that descend from the same source, layer by layer.

Positions run from 0 (the 4x4 layers) in half steps, two per resolution, to log2(resolution) - 2:

    b4.const, b4.conv1, b4.torgb  0.0      b8.conv0  0.5      b8.conv1, b8.torgb  1.0      ...
    b64.conv1, b64.torgb  4.0

A schedule says how much of the *high* parent a layer gets at its position; the *low* parent gives the rest,
so it keeps the low resolutions: pose, expression, where things are. The idea is Pinkney & Adler's
(arXiv:2010.05334), whose published code switches two positions late, never blends 4x4 and leaves the mapping to
one parent by accident: here all three are spelled out.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from stages.common.errors import ModelFileError

State = Mapping[str, Tensor]
Parent = Literal["source", "transferred"]

_LAYER = re.compile(r"synthesis\.b(\d+)\.(const|conv0|conv1|torgb)\b")


@dataclass(frozen=True)
class Schedule:
    """Share of the high parent as a function of the position.

    kind: smooth = logistic, linear = straight ramp, swap = a hard switch.
    mid: position where both parents give half. width: smooth, the logistic's scale; linear, half the ramp;
    swap ignores it.
    per_resolution: shares that replace the curve at single resolutions, e.g. {32: 1.0, 64: 1.0}.
    """

    kind: Literal["smooth", "linear", "swap"] = "smooth"
    mid: float = 1.5
    width: float = 0.5
    per_resolution: Mapping[int, float] = field(default_factory=dict)

    def share(self, resolution: int, position: float) -> float:
        """Share of the high parent in [0, 1] of a layer of `resolution` at `position`."""
        if resolution in self.per_resolution:
            return float(self.per_resolution[resolution])
        if self.kind == "swap":
            return float(position >= self.mid)
        x = (position - self.mid) / self.width
        if self.kind == "linear":
            return min(1.0, max(0.0, (x + 1.0) / 2.0))
        return float(torch.sigmoid(torch.tensor(x, dtype=torch.float64)))


def layer_position(name: str) -> tuple[int, str, float] | None:
    """(resolution, layer, position) of a synthesis parameter; None for the mapping network's."""
    match = _LAYER.match(name)
    if match is None:
        return None
    resolution, layer = int(match.group(1)), match.group(2)
    return resolution, layer, float(resolution.bit_length() - 3) - (0.5 if layer == "conv0" else 0.0)


def blend(parents: Sequence[State], shares: Callable[[str], Sequence[float]]) -> dict[str, Tensor]:
    """Weighted sum of equally shaped states; `shares(name)` gives one weight per parent, summing to 1.

    Fixed noise images and filters are not weights: averaging two noise images would only weaken them, so
    buffers come from the first parent. Raises ModelFileError when the parents' layers differ.
    """
    check_same_layers(parents)
    out: dict[str, Tensor] = {}
    for name, first in parents[0].items():
        if name.endswith(("noise_const", "resample_filter")):
            out[name] = first.clone()
            continue
        weights = shares(name)
        if abs(sum(weights) - 1.0) > 1e-6:
            raise ValueError(f"{name}: the parents' shares {weights} do not sum to 1")
        total = sum(w * parent[name].double() for w, parent in zip(weights, parents, strict=True))
        out[name] = torch.as_tensor(total).to(first.dtype)
    return out


def check_same_layers(parents: Sequence[State]) -> None:
    """Raise ModelFileError unless every state has the first one's names and shapes."""
    first = parents[0]
    for other in parents[1:]:
        odd = sorted(set(first) ^ set(other)) or sorted(n for n in first if first[n].shape != other[n].shape)
        if odd:
            raise ModelFileError(f"the models to fuse differ in {len(odd)} layers, the first is {odd[0]}")


def fuse(
    source: State,
    transferred: State,
    schedule: Schedule,
    *,
    low: Parent = "source",
    mapping: Parent = "source",
    torgb: Schedule | None = None,
    align_samples: int = 4096,
    z_dim: int | None = None,
) -> dict[str, Tensor]:
    """Fuse two generators into the state of one.

    source, transferred: states with official names (mapping.*, synthesis.*), float, equal shapes.
    low: which parent gives the low resolutions; the other is the schedule's high parent.
    mapping: which parent gives the mapping network and w_avg. It is never averaged: an average of two
    networks' weights
        is neither's w. Where the other parent's mapping differs, its affine layers are re-based onto this
        one's w (`rebase_affines`), so both parents answer to the same latent.
    torgb: an own schedule for the colour layers; None = they follow their resolution.
    align_samples: latents the re-basing is fitted on.
    """
    check_same_layers([source, transferred])
    states: dict[Parent, State] = {"source": source, "transferred": transferred}
    keeper, other = mapping, _other(mapping)
    if not same_mapping(source, transferred):
        states[other] = rebase_affines(states[other], states[keeper], align_samples, z_dim)
    colours = torgb or schedule

    def high_share(name: str) -> float:
        place = layer_position(name)
        if place is None:
            return 0.0 if keeper == low else 1.0
        resolution, layer, position = place
        return (colours if layer == "torgb" else schedule).share(resolution, position)

    def shares(name: str) -> tuple[float, float]:
        return 1.0 - high_share(name), high_share(name)

    return blend([states[low], states[_other(low)]], shares)


def same_mapping(a: State, b: State) -> bool:
    """Whether two states map every z to the same w."""
    return all(torch.equal(a[n], b[n]) for n in a if n.startswith("mapping.fc"))


def rebase_affines(state: State, onto: State, samples: int = 4096, z_dim: int | None = None) -> dict[str, Tensor]:
    """`state` with its affine layers changed so that it understands the w of `onto`'s mapping network.

    Fits w_state ~ A w_onto + c by least squares over `samples` latents (both mapping networks fed the same z), with
    A [w_dim, w_dim] and c [w_dim], and folds A and c into every affine layer: style = W (A w + c) + b. The mapping
    network becomes `onto`'s. Exact where the two mappings differ by an affine map, which fine-tuning at 1/100 of the
    rate stays near.
    """
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(samples, z_dim or state["mapping.fc0.weight"].shape[1], generator=generator, dtype=torch.float64)
    w_own, w_onto = map_latents(state, z), map_latents(onto, z)
    design = torch.cat([w_onto, torch.ones(samples, 1, dtype=torch.float64)], dim=1)
    solution = torch.linalg.lstsq(design, w_own).solution
    turn, shift = solution[:-1].T, solution[-1]
    out = dict(state)
    for name in state:
        if name.startswith("mapping."):
            out[name] = onto[name].clone()
        elif name.endswith("affine.weight"):
            weight, bias_name = state[name].double(), name.replace("weight", "bias")
            gain = weight.shape[1] ** -0.5  # the affine layer's equalised learning-rate gain
            out[name] = (weight @ turn).to(state[name].dtype)
            out[bias_name] = (state[bias_name].double() + gain * weight @ shift).to(state[bias_name].dtype)
    return out


def map_latents(state: State, z: Tensor) -> Tensor:
    """The mapping network written out: z [N, z_dim] float64 -> w [N, w_dim] float64, no truncation."""
    x = z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
    for i in range(sum(n.startswith("mapping.fc") and n.endswith(".weight") for n in state)):
        weight, bias = state[f"mapping.fc{i}.weight"].double(), state[f"mapping.fc{i}.bias"].double()
        x = x @ weight.T * (0.01 / weight.shape[1] ** 0.5) + bias * 0.01
        x = torch.nn.functional.leaky_relu(x, 0.2) * 2**0.5
    return x


def share_table(state: State, schedule: Schedule, torgb: Schedule | None = None) -> dict[str, float]:
    """Share of the high parent per layer, low to high, for reports: {"b4.conv1": 0.05, ...}."""
    table: dict[str, float] = {}
    for name in state:
        place = layer_position(name)
        if place is not None:
            resolution, layer, position = place
            chosen = torgb if torgb is not None and layer == "torgb" else schedule
            table[f"b{resolution}.{layer}"] = round(chosen.share(resolution, position), 4)
    return table


def _other(parent: Parent) -> Parent:
    return "transferred" if parent == "source" else "source"
