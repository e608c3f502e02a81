"""Verdict first: are these pictures enough to start with? Looks at them as the stages will, registers nothing.

``python -m stages.faces.check --kind style DIR [DIR...] --json OUT`` is what ``new-style`` and ``photos`` run.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from pipeline.settings import Settings, load_settings
from stages.common.atomic import write_json
from stages.common.errors import FactoryError, InputError
from stages.faces import photos, style_faces
from stages.faces.distribution import distribution
from stages.faces.groups import compile_pattern
from stages.faces.holdout import match_holdout, require_found

Kind = Literal["photos", "style"]

# published numbers: Toonify 300, DualStyleGAN 100-317, DCT-Net 100-300, photo2cartoon 204
GOOD_STYLE, GOOD_PHOTOS = 100, 500
HELP = {
    "no_face": "faces were not found: use portraits, add a landmarks.csv (file, eye_l_x, eye_l_y, eye_r_x, eye_r_y), "
    "or YuNet if 'stylefactory doctor' does not list it as found",
    "no_landmarks": "pictures have no row in landmarks.csv: complete it, or set align to detect",
    "face_too_small": "faces are too small: use larger originals or crop less background",
    "blurred": "pictures are blurred: leave them out, or lower min_sharpness if the style is soft",
    "too_dark": "pictures are too dark: brighten them or lower min_brightness",
    "too_bright": "pictures are burnt out: darken them or raise max_brightness",
    "rolled": "heads are tilted far: turn the pictures upright",
    "profile": "heads are turned away: use frontal pictures",
    "duplicate": "pictures are there twice: nothing to do",
}


def check_pictures(
    folders: Sequence[Path], kind: Kind, settings: Settings, root: Path, licence: str = ""
) -> dict[str, Any]:
    """Looks through folders of pictures and judges whether they suffice.

    Args:
        folders: searched recursively; their results are added up.
        kind: "photos" of people or pictures of one "style".
        licence: what the user says about licence or consent.

    Returns:
        JSON-friendly: verdict ("good", "thin" or "unusable"), text (lines for a person), files, usable, groups,
        rejected (counts by reason), rejected_files, distribution, licence, licence_missing.

    Raises:
        InputError: a folder is missing, or the photos' hold-out list names what is in none of them.
        SettingsError: a pattern is no regular expression with a group.
    """
    mine = settings.photos
    lost = photos.read_holdout(root / mine.holdout) if kind == "photos" and mine.holdout else []
    # no folder needs to have everybody on the list, only all together
    settings = settings.model_copy(update={"photos": mine.model_copy(update={"holdout": ""})})
    tables, refused, files = [], [], 0
    for folder in folders:
        stage = photos if kind == "photos" else style_faces
        table, rejected, _, _ = stage.prepare(folder, settings, root)
        if lost:
            pattern = compile_pattern(mine.person_pattern, "photos.person_pattern")
            _, lost = match_holdout(lost, table, rejected, folder, pattern)
        tables.append(table)
        refused.append(rejected.assign(file=[f"{folder}/{name}" for name in rejected["file"]]))
        files += table["file"].nunique() if len(table) else 0
    require_found(lost, root / mine.holdout)
    table = (
        pd.concat([t for t in tables if len(t)], ignore_index=True) if any(len(t) for t in tables) else pd.DataFrame()
    )
    rejected = pd.concat(refused, ignore_index=True)
    files += int(rejected["file"].nunique())
    return verdict_of(table, rejected, files, kind, settings, licence)


def verdict_of(
    table: pd.DataFrame, rejected: pd.DataFrame, files: int, kind: Kind, settings: Settings, licence: str
) -> dict[str, Any]:
    """The verdict on selected pictures (:func:`check_pictures`)."""
    least = settings.photos.min_usable if kind == "photos" else settings.style_faces.min_usable
    good = GOOD_PHOTOS if kind == "photos" else GOOD_STYLE
    group = "person" if kind == "photos" else "design"
    usable = len(table)
    groups = int(table[group].nunique()) if usable else 0
    counts = {str(k): int(v) for k, v in rejected["reason"].value_counts().items()}
    lines = [f"{usable} of {files} pictures usable, {groups} {group}s."]
    lines += [
        f"  {n:5d} {reason}: {HELP.get(reason, 'the file is damaged or no picture')}" for reason, n in counts.items()
    ]
    verdict = "good"
    if usable < least:
        verdict = "unusable"
        lines.append(f"Too few: at least {least} are needed, {good} or more are advised.")
    elif usable < good:
        verdict = "thin"
        lines.append(f"Thin: it will run, but {good} or more are advised" + _usual(kind))
    elif groups < usable // 6:
        verdict = "thin"
        lines.append(f"Thin: many variants of few {group}s; more different ones help more than more variants.")
    else:
        lines.append("Number and variety suffice.")
    described = distribution(table) if usable else {}
    lines += variety_notes(described, kind) if usable >= least else []
    if not licence:
        lines.append("Licence or consent is not stated; it belongs into every model card (--licence TEXT).")
    return {
        "verdict": verdict,
        "text": lines,
        "files": files,
        "usable": usable,
        f"{group}s": groups,
        "rejected": counts,
        "rejected_files": rejected.head(1000).to_dict("records"),
        "distribution": described,
        "licence": licence,
        "licence_missing": not licence,
    }


def _usual(kind: Kind) -> str:
    return " (style sets people use: 100 to 317 pictures)." if kind == "style" else " for varied results."


def variety_notes(described: dict[str, Any], kind: Kind) -> list[str]:
    """Remarks on one-sided sets, from :func:`distribution`."""
    notes = []
    light = described.get("brightness")
    if light and light["p95"] - light["p5"] < 15:
        notes.append("All pictures are equally bright; other light will look foreign to the model.")
    if kind == "photos" and "tones" in described:
        missing = [name for name, share in described["tones"].items() if share < 0.02]
        if len(missing) >= 3:
            notes.append(f"Skin tones hardly present: {', '.join(missing)}; people with them will be served badly.")
    if kind == "photos" and "yaw" in described.get("not_measured", []):
        notes.append("Pose (yaw): not measured, so profiles were not refused; face_detection_yunet.onnx measures it.")
    if kind == "photos" and described.get("turned_15_degrees", 1.0) < 0.02:
        notes.append("Hardly any turned heads; results on turned heads will be weaker.")
    return notes


def main(argv: Sequence[str] | None = None) -> int:
    """The command: prints the verdict, writes it as JSON; 0 usable, 2 wrong settings, 3 not usable."""
    parser = argparse.ArgumentParser(prog="python -m stages.faces.check", description=main.__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="folders of pictures")
    parser.add_argument("--kind", choices=["photos", "style"], required=True)
    parser.add_argument("--licence", default="", help="licence or consent of the pictures")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--style", default="", help="a registered style whose overrides apply")
    parser.add_argument("--json", type=Path, help="where to write the verdict")
    args = parser.parse_args(argv)
    try:
        settings = load_settings(args.params)
        settings = settings.for_style(args.style) if args.style else settings
        result = check_pictures(args.folders, args.kind, settings, Path.cwd(), args.licence)
        if args.json:
            write_json(args.json, result)
        print("\n".join(result["text"]))
        if result["verdict"] == "unusable":
            raise InputError(f"{', '.join(map(str, args.folders))}: {result['usable']} usable pictures are too few")
    except FactoryError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
