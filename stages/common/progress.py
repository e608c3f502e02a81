"""Progress for people: a rich bar on a terminal, one plain line every few seconds elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

T = TypeVar("T")
PLAIN_EVERY_S = 10.0


def log(message: str) -> None:
    """One plain line on standard output, at once (DVC and Prefect show it live)."""
    print(message, flush=True)


def duration(seconds: float) -> str:
    """Seconds as people read them: 8 s, 3:20 min, 2:05 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 60:
        return f"{int(minutes)}:{int(seconds % 60):02d} min"
    return f"{int(minutes // 60)}:{int(minutes % 60):02d} h"


class Progress:
    """Counts to ``total``; ``update(done, text)`` redraws the bar or, off a terminal, prints now and then.

    Use as a context manager. ``unit`` names what is counted ("img", "photos").
    """

    def __init__(self, label: str, total: int, unit: str = "img", start: int = 0) -> None:
        self.label, self.total, self.unit, self.start = label, max(total, 1), unit, start
        self._began = self._last = time.monotonic()
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> "Progress":
        if sys.stdout.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"),
            )
            self._bar = RichProgress(*columns)
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total, completed=self.start, text="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, text: str = "") -> None:
        """``done`` of ``total`` are ready; ``text`` (losses, counts) is shown beside the rate."""
        now = time.monotonic()
        rate = (done - self.start) / max(now - self._began, 1e-6)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, text=f"{rate:.1f} {self.unit}/s {text}")
        elif now - self._last >= PLAIN_EVERY_S or done == self.total:
            self._last = now
            # streams do not say how long they are: more may come than was announced
            left = duration(max(0, self.total - done) / rate) if rate > 0 else "?"
            log(
                f"{self.label}: {done}/{self.total} {self.unit}, {rate:.1f} {self.unit}/s, {left} left  {text}".rstrip()
            )


def track(items: Iterable[T], total: int, label: str, unit: str = "items") -> Iterator[T]:
    """Yields ``items`` while showing progress."""
    with Progress(label, total, unit) as progress:
        for i, item in enumerate(items, 1):
            yield item
            progress.update(i)
