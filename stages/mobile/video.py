"""Video through the model: a frame loop over OpenCV, with crops that follow faces steadily. Sound is not copied."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from stages.common.atomic import atomic_path
from stages.common.errors import InputError, StageError
from stages.common.progress import Progress, log
from stages.mobile.frame import FrameStylizer

SUFFIXES = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"})
FOLLOW = 0.6  # weight of the newest crop; less lags behind, more trembles with the detector
KEEP_FRAMES = 5  # frames a lost face is still drawn at its last place, so that one missed find does not flash
FALLBACK_FPS = 25.0  # some containers do not say


def stylize_video(source: Path, target: Path, stylizer: FrameStylizer) -> dict[str, int]:
    """Writes ``target`` (MPEG-4 in .mp4, Motion JPEG in .avi) from ``source``, atomically.

    Returns:
        {"frames": written, "faces": faces drawn over all frames}.

    Raises:
        InputError: not a video, no picture in it (sound only), no decodable frame.
        StageError: this OpenCV cannot write the target's format, or not all frames arrived in the file.
    """
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    capture = cv2.VideoCapture(str(source), cv2.CAP_FFMPEG)
    try:
        first = _read(capture) if capture.isOpened() else None
        if first is None:
            raise InputError(f"{source}: has no decodable video frame (empty, damaged, sound only or not a video)")
        expected = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        fps = capture.get(cv2.CAP_PROP_FPS)
        fps = fps if 1 <= fps <= 240 else FALLBACK_FPS
        with atomic_path(target) as temporary:
            written, faces = _write(temporary, fps, first, _frames(capture, first), stylizer, expected)
    finally:
        capture.release()
    if written < expected:
        log(f"{source}: ended after {written} of {expected} frames (cut short or damaged); what there was is stylised")
    return {"frames": written, "faces": faces}


def _write(
    path: Path, fps: float, first: np.ndarray, frames: Iterator[np.ndarray], stylizer: FrameStylizer, expected: int
) -> tuple[int, int]:
    height, width = first.shape[:2]
    code = "MJPG" if path.suffix.lower() == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), fps, (width, height))
    if not writer.isOpened():
        writer.release()
        raise StageError(f"{path.suffix}: OpenCV here cannot write this format; use .mp4 or .avi")
    follower, written, faces = Follower(), 0, 0
    try:
        with Progress("stylize", max(expected, 1), unit="frames") as progress:
            for frame in frames:
                if frame.shape != first.shape:  # a stream may change its size; a file has one
                    frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
                if stylizer.options.whole_frame:
                    drawn, count = stylizer(frame)
                else:
                    quads = follower.update(stylizer.quads(frame), one=not stylizer.options.all_faces)
                    drawn, count = frame, len(quads)
                    for quad in quads:
                        drawn = stylizer.paste(drawn, quad)
                writer.write(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
                written, faces = written + 1, faces + count
                progress.update(written)
    finally:
        writer.release()
    _check(path, written)
    return written, faces


def _check(path: Path, written: int) -> None:
    """OpenCV does not say when writing fails, on a full disk for instance: count the frames that arrived."""
    capture = cv2.VideoCapture(str(path))
    found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    if found < written:
        raise StageError(f"{found} of {written} frames arrived in the video; is the disk full?")


def _frames(capture: cv2.VideoCapture, first: np.ndarray) -> Iterator[np.ndarray]:
    frame: np.ndarray | None = first
    while frame is not None:
        yield frame
        frame = _read(capture)


def _read(capture: cv2.VideoCapture) -> np.ndarray | None:
    done, frame = capture.read()
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if done and frame is not None else None


class Follower:
    """Keeps crops steady from frame to frame: matches by distance, averages, holds a lost face for a moment."""

    def __init__(self) -> None:
        self._tracks: list[tuple[np.ndarray, int]] = []

    def update(self, quads: list[np.ndarray], one: bool = False) -> list[np.ndarray]:
        """Crops found in this frame, float [4, 2] each → crops to draw; ``one``: at most one, the one just found."""
        old, tracks = list(self._tracks), []
        for quad in quads:
            match = next((i for i, (was, _) in enumerate(old) if _near(was, quad)), None)
            if match is not None:
                was, _ = old.pop(match)
                quad = (1 - FOLLOW) * was + FOLLOW * quad
            tracks.append((quad, 0))
        if not (one and tracks):  # another face of that size a frame ago is another person
            tracks += [(quad, lost + 1) for quad, lost in old if lost < KEEP_FRAMES]
        self._tracks = tracks
        return [quad for quad, _ in tracks]


def _near(a: np.ndarray, b: np.ndarray) -> bool:
    side = max(np.linalg.norm(a[3] - a[0]), np.linalg.norm(b[3] - b[0]))
    return bool(np.linalg.norm(a.mean(0) - b.mean(0)) < 0.25 * side)
