"""A shard function that sleeps, for the orphan test."""

import os
import time
from pathlib import Path


def sleep_long(job: list) -> None:
    folder, _ = job
    (Path(folder) / f"pid_{os.getpid()}").touch()
    time.sleep(120)
