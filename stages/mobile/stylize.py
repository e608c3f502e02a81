"""``stylefactory stylize --model X.mnn IN OUT``: a picture, a folder of pictures, or a video."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from stages.common.atomic import atomic_path, write_text
from stages.common.errors import FactoryError, InputError, SettingsError
from stages.common.images import SUFFIXES, list_images, read_image, write_png
from stages.common.progress import Progress, log
from stages.mobile import video
from stages.mobile.frame import FrameStylizer, Options, require_faces
from stages.mobile.runtime import MobileStylizer

WRITTEN = frozenset({".png", ".jpg", ".jpeg", ".webp"})


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 1 failed, 2 wrong use, 3 input unusable."""
    parser = argparse.ArgumentParser(prog="stylefactory stylize", description=__doc__)
    parser.add_argument("input", type=Path, help="picture, folder of pictures, or video")
    parser.add_argument("output", type=Path, help="picture, folder or video to write")
    parser.add_argument("--model", type=Path, required=True, help=".mnn file with its .json sidecar beside it")
    parser.add_argument("--all-faces", action="store_true", help="every face, not only the largest")
    parser.add_argument("--strength", type=float, default=1.0, help="0 leaves the photo, 1 is the full style")
    parser.add_argument("--whole-frame", action="store_true", help="no face search: the frame itself is the face")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0 takes all cores")
    args = parser.parse_args(argv)
    try:
        if not 0 <= args.strength <= 1:
            raise SettingsError(f"--strength {args.strength}: must lie between 0 and 1")
        if args.threads < 0:
            raise SettingsError(f"--threads {args.threads}: must not be negative")
        options = Options(args.all_faces, args.strength, args.whole_frame)
        run(args.input, args.output, args.model, options, args.threads)
    except FactoryError as error:
        print(f"stylize: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run(source: Path, target: Path, model: Path, options: Options, threads: int = 0) -> None:
    """Stylises ``source`` into ``target`` by what ``source`` is: a folder, a video, or a picture.

    Raises:
        InputError: source, model or every picture unusable. SettingsError: ``target`` of a kind that is not written.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    if target.exists() and source.resolve() == target.resolve():
        raise SettingsError(f"{target}: is the input itself; the original would be lost")
    stylizer = FrameStylizer(MobileStylizer(model, threads), options)
    began = time.monotonic()
    if source.is_dir():
        done, skipped = stylize_folder(source, target, stylizer)
        what = f"{done} pictures, {skipped} skipped (skipped.csv says why)" if skipped else f"{done} pictures"
    elif source.suffix.lower() in video.SUFFIXES:
        _check_suffix(target, video.SUFFIXES)
        counts = video.stylize_video(source, target, stylizer)
        what = f"{counts['frames']} frames, {counts['faces']} faces; sound is not copied"
    else:
        _check_suffix(target, WRITTEN)
        faces = stylize_picture(source, target, stylizer)
        what = f"{faces} face{'s' * (faces != 1)}"
    log(f"{target}: {what}, {time.monotonic() - began:.2f} s")


def stylize_picture(source: Path, target: Path, stylizer: FrameStylizer) -> int:
    """One picture, upright as its EXIF says, at its own size; returns the faces drawn.

    Raises:
        ImageError: not a usable picture. InputError: no face in it.
    """
    result, faces = stylizer(read_image(source))
    require_faces(faces, source)
    write_picture(target, result)
    return faces


def stylize_folder(source: Path, target: Path, stylizer: FrameStylizer) -> tuple[int, int]:
    """Every picture below ``source`` to the same place below ``target``; unusable ones go into ``skipped.csv``.

    Names keep their place and stem; the suffix too where we write that format, else ``.png`` is added to it.

    Returns:
        (pictures written, pictures skipped).

    Raises:
        InputError: no picture in the folder, or none usable (the reasons are in ``skipped.csv``).
        SettingsError: ``target`` is there and no folder.
    """
    if target.exists() and not target.is_dir():
        raise SettingsError(f"{target}: exists and is not a folder")
    pictures = [p for p in list_images(source) if target.resolve() not in p.resolve().parents]
    if not pictures:
        raise InputError(f"{source}: no pictures ({', '.join(sorted(SUFFIXES))})")
    skipped: list[tuple[Path, str]] = []
    with Progress("stylize", len(pictures), unit="pictures") as progress:
        for i, path in enumerate(pictures, 1):
            name = path.relative_to(source)
            if name.suffix.lower() not in WRITTEN:
                name = name.with_name(name.name + ".png")
            try:
                stylize_picture(path, target / name, stylizer)
            except InputError as error:
                skipped.append((path, str(error).replace('"', "'")))
            progress.update(i)
    if skipped:
        lines = ["file,reason", *(f'"{path.relative_to(source)}","{reason}"' for path, reason in skipped)]
        write_text(target / "skipped.csv", "\n".join(lines) + "\n")
    if len(skipped) == len(pictures):
        raise InputError(f"{source}: none of {len(pictures)} pictures could be stylised; see {target / 'skipped.csv'}")
    return len(pictures) - len(skipped), len(skipped)


def write_picture(path: Path, rgb: np.ndarray) -> None:
    """uint8 [H, W, 3] in the format of the suffix, atomically; JPEG and WebP at quality 95.

    Raises:
        InputError: the picture is too large for the format.
    """
    if path.suffix.lower() == ".png":
        write_png(path, rgb)
        return
    kind = cv2.IMWRITE_WEBP_QUALITY if path.suffix.lower() == ".webp" else cv2.IMWRITE_JPEG_QUALITY
    done, data = cv2.imencode(path.suffix.lower(), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [kind, 95])
    if not done:
        size = f"{rgb.shape[1]}x{rgb.shape[0]}"
        raise InputError(f"{path}: {size} pixels are too many for this format; write a .png")
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.tobytes())


def _check_suffix(path: Path, known: frozenset[str]) -> None:
    if path.suffix.lower() not in known:
        raise SettingsError(f"{path}: write one of {', '.join(sorted(known))}")


if __name__ == "__main__":
    sys.exit(main())
