"""``python -m stages.pair.variants --style S``: plain, mask, region, both, and what each addition is worth.

Every row is trained for the same number of photos and measured on the same held-back ones.
"""

from collections.abc import Sequence
from typing import Any

from stages.common.progress import log
from stages.common.runner import StageContext
from stages.pair.trials import command, run_trials

FOREVER = 1e5  # a warm start longer than any run: supervised by latent pairs alone

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"mask": False, "region": False},
    "mask": {"mask": True, "region": False},
    "region": {"mask": False, "region": True},
    "both": {"mask": True, "region": True},
    "latents_only": {"mask": True, "region": True, "warm_kimg": FOREVER, "face_identity": 0.0},
    "unpaired_only": {"mask": True, "region": True, "warm_kimg": 0.0, "pairs_start": 0.0, "pairs_end": 0.0},
    "without_skip": {"mask": True, "region": True, "skip": False},
    "without_features": {"mask": True, "region": True, "pairs_perceptual": 0.0},
    "without_edges": {"mask": True, "region": True, "edge_weight": 0.0},
    "without_augment": {"mask": True, "region": True, "augment": 0.0},
}


def work(ctx: StageContext, kimg: float | None) -> None:
    """Trains and measures all variants."""
    table = run_trials(ctx, VARIANTS, kimg, "variants", "variants")
    log(table.to_string(index=False))


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    command("variants", __doc__, work, argv)


if __name__ == "__main__":
    main()
