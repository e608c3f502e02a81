"""Stand-ins for the stages of the real diagram: the real runner, no torch, results that follow inputs and settings.

``transfer`` counts slowly with a checkpoint at every step, as a trainer does; its result is a hash chain, so an
interrupted and resumed run must end with the same bytes as an undisturbed one. ``FAKE_STEPS`` and ``FAKE_STEP_S`` set
its length.
"""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

from pipeline.settings import Settings
from stages.common.atomic import publish_dir, write_bytes, write_json
from stages.common.errors import InputError
from stages.common.runner import StageContext, run_stage

PACE = Path("pace")  # seconds per step; a test may change it while transfer runs


def photos(ctx: StageContext) -> None:
    """Copies the photos."""
    _folder(ctx, ctx.root / ctx.settings.photos.path, ctx.root / "data/photos")


def style_faces(ctx: StageContext) -> None:
    """Copies the pictures; refuses a style with a file called broken.png."""
    assert ctx.settings.item is not None
    pictures = ctx.root / ctx.settings.item.pictures
    if (pictures / "broken.png").exists():
        raise InputError(f"{pictures}: 0 of 1 pictures usable (broken.png: not an image)")
    _folder(ctx, pictures, ctx.root / "data/style_faces" / ctx.style)


def transfer(ctx: StageContext) -> None:
    """Counts to FAKE_STEPS; each step hashes on from the one before. A damaged checkpoint starts over."""
    steps, pause = int(os.environ.get("FAKE_STEPS", "3")), float(os.environ.get("FAKE_STEP_S", "0"))
    checkpoint = ctx.work / "checkpoint.json"
    done, value = 0, f"seed {ctx.settings.common.seed}"
    try:
        record = json.loads(checkpoint.read_text())
        done, value = record["done"], record["value"]
        assert record["check"] == hashlib.sha256(f"{done} {value}".encode()).hexdigest()
        print(f"resumed at step {done}", flush=True)
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, AssertionError):
        print("damaged checkpoint ignored", flush=True)
        done, value = 0, f"seed {ctx.settings.common.seed}"
    while done < steps:
        value = hashlib.sha256(value.encode()).hexdigest()
        done += 1
        print(f"step {done}/{steps}", flush=True)
        time.sleep(float(PACE.read_text()) if PACE.is_file() else pause)
        check = hashlib.sha256(f"{done} {value}".encode()).hexdigest()
        write_json(checkpoint, {"done": done, "value": value, "check": check})
    names = sorted(path.name for path in (ctx.root / "data/style_faces" / ctx.style).iterdir())
    write_bytes(ctx.root / "models" / ctx.style / "transferred.safetensors", f"{value} {names}".encode())
    write_json(ctx.report / "summary.json", {"steps": steps})


def fuse(ctx: StageContext) -> None:
    """Depends on fuse.mid."""
    folder = ctx.root / "models" / ctx.style
    parent = (folder / "transferred.safetensors").read_bytes()
    write_bytes(folder / "fused.safetensors", parent + f" mid {ctx.settings.fuse.mid}".encode())


def export(ctx: StageContext) -> None:
    """Something to ship."""
    folder = ctx.root / "models" / ctx.style
    write_bytes(folder / "mobile.mnn", (folder / "fused.safetensors").read_bytes()[:40])
    write_json(folder / "mobile.json", {"style": ctx.style})


def evaluate(ctx: StageContext) -> None:
    """Writes numbers, a verdict, a model card and a report."""
    write_bytes(ctx.report.parent / "model_card.md", b"# Model card: toy\n\n**Verdict: pass**\n")
    write_json(ctx.report / "metrics.json", {"verdict": "pass", "rows": {"style_gap": {"value": 0.5}}})
    write_bytes(ctx.root / "reports" / ctx.style / "report.html", b"<h1>report</h1>")


def _folder(ctx: StageContext, source: Path, final: Path) -> None:
    fresh = ctx.work / "out"
    fresh.mkdir(exist_ok=True)
    for path in source.iterdir():
        (fresh / path.name).write_bytes(path.read_bytes())
    publish_dir(fresh, final)


def _inputs(stage: str):  # type: ignore[no-untyped-def]
    def inputs(_settings: Settings, style: str) -> list[Path]:
        return [Path("data/style_faces") / style] if stage == "transfer" else []

    return inputs


if __name__ == "__main__":
    name = sys.argv.pop(1)
    run_stage(name, globals()[name], _inputs(name), per_style=name != "photos")
