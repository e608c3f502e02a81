"""What an avatar looks like: traits, colours, pose and expression, drawn from a seed.

Traits whose spread matters downstream (skin tone, hairstyle, yaw, smile, mouth opening) follow a low-discrepancy
sequence over the design number, so that a hundred designs cover them evenly; the rest is plainly random.
"""

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from stages.faces.avatars_svg import Colour, hsl, mix, times

T = TypeVar("T")
Hair = Literal[
    "bald", "receding", "buzz", "crew", "side_part", "quiff", "messy", "curly", "afro", "pixie", "bun", "ponytail",
    "bob", "bangs", "long", "wavy", "locks", "curls_long", "cap", "beanie", "hijab", "turban",
]  # fmt: skip
Beard = Literal["none", "stubble", "moustache", "goatee", "full"]
Glasses = Literal["none", "round", "square", "cat"]
Clothes = Literal["suit", "shirt", "tee", "hoodie", "turtleneck", "blouse"]

# weight of each hairstyle for the two groups of faces (soft, angular); the photos' haircuts, with more variety
_HAIR: dict[Hair, tuple[float, float]] = {
    "bald": (0, 7), "receding": (0, 8), "buzz": (0.5, 8), "crew": (0, 13), "side_part": (0, 19), "quiff": (0, 13),
    "messy": (1, 9), "curly": (3, 8), "afro": (4, 4), "pixie": (9, 1), "bun": (9, 0.7), "ponytail": (9, 0.7),
    "bob": (15, 0), "bangs": (10, 0), "long": (15, 1.2), "wavy": (16, 0.8), "locks": (2, 2), "curls_long": (9, 0.6),
    "cap": (0.5, 2), "beanie": (1, 2), "hijab": (4, 0), "turban": (0, 2),
}  # fmt: skip

_SKIN: list[Colour] = [  # from very light to very dark, natural and a little warm
    (255, 224, 204), (250, 208, 180), (240, 190, 154), (226, 168, 126), (203, 141, 100),
    (174, 114, 78), (144, 92, 62), (118, 75, 53), (96, 62, 46),
]  # fmt: skip
_HAIR_COLOURS: list[tuple[Colour, float, float]] = [  # colour, weight with light skin, weight with dark skin
    ((42, 34, 36), 14, 70), ((70, 46, 36), 22, 24), ((112, 70, 44), 22, 6), ((150, 96, 54), 12, 2),
    ((206, 152, 84), 13, 0.5), ((236, 200, 132), 10, 0.3), ((176, 84, 44), 6, 1), ((118, 48, 40), 3, 2),
]  # fmt: skip
_EYES: list[tuple[Colour, float, float]] = [
    ((92, 54, 32), 52, 84), ((122, 78, 42), 22, 15), ((86, 116, 72), 7, 0.5), ((74, 122, 170), 14, 0.3),
    ((92, 112, 130), 8, 0.3),
]  # fmt: skip
_CLOTHES_HUES = (210, 225, 245, 0, 350, 30, 45, 160, 175, 190, 120, 280, 320)


@dataclass(frozen=True)
class Design:
    """One avatar. Lengths in head units (see avatars_svg), angles in degrees, amounts in 0..1 unless said."""

    number: int
    soft: bool  # group of traits: soft faces have fuller lips and longer lashes, angular ones beards
    skin: Colour
    skin_dark: float
    hair: Hair
    hair_colour: Colour
    grey: bool
    part: int  # side of the parting and of the sweep: -1 or 1
    volume: float
    beard: Beard
    glasses: Glasses
    glasses_colour: Colour
    clothes: Clothes
    cloth: Colour
    cloth_second: Colour
    eye_colour: Colour
    brow_weight: float
    lips: Colour
    lip_fullness: float
    earrings: bool
    freckles: bool
    blush: float
    age: float
    face_width: float  # factors around 1
    jaw: float
    chin: float
    eye_size: float
    eye_tilt: float  # outer corner above the inner one, head units
    nose_width: float
    nose_length: float
    mouth_y: float
    ear: float
    shoulders: float
    yaw: float
    pitch: float
    roll: float
    light: int  # side the light comes from: -1 or 1
    smile: float  # -0.5 sad .. 1 broad smile
    opened: float
    mouth_width: float
    brow_raise: float  # -1 lowered .. 1 raised
    brow_angle: float  # -1 worried .. 1 stern
    squint: float
    gaze: tuple[float, float]  # of both eyes alike, head units


def sample_design(seed: int, number: int) -> Design:
    """Design `number` of the set drawn with `seed`; the same two numbers always give the same design."""
    rng = np.random.default_rng([seed, number, 0xA7A7])
    even = _even(number, 6, seed)
    soft = bool((number + seed) % 2)
    dark = float(even[0]) ** 1.9  # lighter tones are commoner, as in the source's photos
    skin = _ramp(_SKIN, dark)
    skin = times(skin, (1.0, rng.uniform(0.97, 1.03), rng.uniform(0.94, 1.05)))
    hair = _weighted(list(_HAIR), [w[0 if soft else 1] for w in _HAIR.values()], float(even[1]))
    age = float(rng.beta(1.3, 1.7)) if hair not in ("receding", "bald") else float(rng.beta(2.2, 1.3))
    grey = bool(rng.random() < np.clip((age - 0.5) * 1.9, 0, 0.85))
    covered = hair in ("cap", "beanie", "hijab", "turban")
    hair_colour = _hair_colour(rng, dark, grey, age)
    beard: Beard = "none"
    if not soft:
        beard = _choice(rng, ["none", "stubble", "moustache", "goatee", "full"], [0.56, 0.11, 0.09, 0.09, 0.15])
        if hair == "turban":
            beard = "full"
    glasses: Glasses = "none"
    if rng.random() < 0.06:  # at 0.14 many styled faces without glasses got the ghost of a rim
        glasses = _choice(rng, ["round", "square", "cat"], [1, 1, 1 if soft else 0])
    cloth, second = _clothes_colours(rng)
    suits = [0.12, 0.14, 0.2, 0.08, 0.12, 0.34] if soft else [0.48, 0.2, 0.16, 0.08, 0.08, 0.0]
    clothes: Clothes = _choice(rng, ["suit", "shirt", "tee", "hoodie", "turtleneck", "blouse"], suits)
    smile, opened = _expression(rng, float(even[3]), float(even[4]))
    return Design(
        number=number,
        soft=soft,
        skin=skin,
        skin_dark=dark,
        hair=hair,
        hair_colour=hair_colour,
        grey=grey,
        part=int(rng.choice([-1, 1])),
        volume=float(rng.uniform(0.0, 1.0)),
        beard=beard,
        glasses=glasses,
        glasses_colour=[(38.0, 34.0, 40.0), (92.0, 44.0, 30.0), (44.0, 62.0, 110.0), (140.0, 40.0, 52.0)][
            int(rng.choice(4, p=[0.55, 0.2, 0.15, 0.1]))
        ],
        clothes=clothes,
        cloth=cloth,
        cloth_second=second,
        eye_colour=_coloured(rng, _EYES, dark),
        brow_weight=float(rng.uniform(0.7, 1.0) if soft else rng.uniform(0.95, 1.35)),
        lips=_lips(rng, skin, soft),
        lip_fullness=float(rng.uniform(0.85, 1.25) * (1.12 if soft else 0.82) * (1.0 + 0.15 * dark)),
        earrings=soft and not covered and bool(rng.random() < 0.4),
        freckles=dark < 0.4 and bool(rng.random() < 0.14),
        blush=float(rng.uniform(0.45, 1.0) if soft else rng.uniform(0.25, 0.7)),
        age=age,
        face_width=float(np.clip(rng.normal(0.985 if soft else 1.015, 0.025), 0.93, 1.07)),
        jaw=float(np.clip(rng.normal(0.945 if soft else 1.05, 0.04), 0.86, 1.14)),
        chin=float(np.clip(rng.normal(0, 3.2), -6, 6)),
        eye_size=float(np.clip(rng.normal(1.03 if soft else 0.97, 0.035), 0.9, 1.1)),
        eye_tilt=float(np.clip(rng.normal(1.5, 1.6), -2, 4.5)),
        nose_width=float(np.clip(rng.normal(0.94 if soft else 1.06, 0.08), 0.8, 1.25) * (1.0 + 0.12 * dark)),
        nose_length=float(np.clip(rng.normal(0, 2.5), -5, 5)),
        mouth_y=float(np.clip(rng.normal(186.5, 2.4), 181, 192)),
        ear=float(rng.uniform(0.88, 1.1)),
        shoulders=float(rng.uniform(0.9, 1.02) if soft else rng.uniform(1.02, 1.18)),
        yaw=float(np.clip(_normal(float(even[2])) * 9.0, -18, 18)),
        pitch=float(np.clip(rng.normal(0, 5.5), -12, 12)),
        roll=float(np.clip(rng.normal(0, 3.5), -8, 8)),
        light=int(rng.choice([-1, 1])),
        smile=smile,
        opened=opened,
        mouth_width=float(rng.uniform(0.92, 1.08)),
        brow_raise=float(np.clip(rng.normal(0.15 + 0.3 * opened, 0.32), -0.8, 1.0)),
        brow_angle=float(np.clip(rng.normal(-0.3 - 0.4 * min(smile, 0.0), 0.32), -0.9, 0.6)),
        squint=float(np.clip(0.28 * max(smile, 0.0) * (0.5 + opened) + rng.normal(0, 0.06), 0.0, 0.4)),
        gaze=(float(np.clip(rng.normal(0, 0.9), -1.8, 1.8)), float(np.clip(rng.normal(0, 0.5), -1, 1))),
    )


def _even(number: int, dims: int, seed: int) -> np.ndarray:
    """Point `number` of the additive-recurrence sequence of Roberts (2018) in [0, 1)^dims, shifted by the seed."""
    root = 2.0
    for _ in range(40):
        root = (1.0 + root) ** (1.0 / (dims + 1))
    shift = np.random.default_rng([seed, 0x5EED]).random(dims)
    return (shift + (number + 1) * (1.0 / root) ** np.arange(1, dims + 1)) % 1.0


def _normal(u: float) -> float:
    """Standard normal quantile (logistic approximation, within 0.02 between -2 and 2)."""
    u = min(max(u, 0.005), 0.995)
    return float(np.log(u / (1.0 - u)) / 1.702)


def _choice(rng: np.random.Generator, names: list[T], weights: list[float]) -> T:
    return _weighted(names, weights, float(rng.random()))


def _weighted(names: list[T], weights: list[float], u: float) -> T:
    edges = np.cumsum(weights) / np.sum(weights)
    return names[int(np.searchsorted(edges, u, side="right"))]


def _ramp(colours: list[Colour], t: float) -> Colour:
    position = min(max(t, 0.0), 0.9999) * (len(colours) - 1)
    index = int(position)
    return mix(colours[index], colours[index + 1], position - index)


def _coloured(rng: np.random.Generator, table: list[tuple[Colour, float, float]], dark: float) -> Colour:
    weights = np.array([light * (1 - dark) ** 3 + deep * dark for _, light, deep in table])
    colour = table[int(rng.choice(len(table), p=weights / weights.sum()))][0]
    return mix(colour, hsl(rng.uniform(0, 360), 0.4, 0.5), 0.04)


def _hair_colour(rng: np.random.Generator, dark: float, grey: bool, age: float) -> Colour:
    if grey:
        return mix((112, 112, 120), (232, 230, 228), float(np.clip(rng.normal(0.25 + 0.5 * age, 0.2), 0, 1)))
    return _coloured(rng, _HAIR_COLOURS, dark)


def _lips(rng: np.random.Generator, skin: Colour, soft: bool) -> Colour:
    natural = mix(times(skin, (0.9, 0.66, 0.64)), (190, 72, 76), 0.35)
    if soft and rng.random() < 0.5:
        painted = hsl(float(rng.choice([352, 342, 8, 335])), 0.62, float(rng.uniform(0.38, 0.52)))
        return mix(natural, painted, 0.75)
    return natural


def _clothes_colours(rng: np.random.Generator) -> tuple[Colour, Colour]:
    hue = float(rng.choice(_CLOTHES_HUES)) + rng.uniform(-8, 8)
    cloth = hsl(hue, rng.uniform(0.35, 0.7), rng.uniform(0.26, 0.58))
    second = hsl(hue + float(rng.choice([150, 180, 210, 30])), rng.uniform(0.4, 0.7), rng.uniform(0.4, 0.6))
    return cloth, second


def _expression(rng: np.random.Generator, kind: float, amount: float) -> tuple[float, float]:
    """Smile and mouth opening: a quarter neutral or sad, a third closed smiles, the rest open ones."""
    if kind < 0.08:
        return -0.5 + 0.4 * amount, 0.0
    if kind < 0.28:
        return -0.05 + 0.25 * amount, 0.0
    if kind < 0.56:
        return 0.3 + 0.6 * amount, 0.0
    if kind < 0.9:
        return float(rng.uniform(0.55, 1.0)), 0.12 + 0.75 * amount
    return float(rng.uniform(-0.1, 0.35)), 0.15 + 0.6 * amount
