"""The translator's training killed with SIGKILL at random moments, as a process of its own: it ends the same."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from stages.common.modelfile import load_model
from tests.pair.factory import STYLE, build

REPO = Path(__file__).resolve().parents[2]
RUN = """
import sys
from pathlib import Path
from stages.pair import translate
from tests.pair.factory import TINY, context
longer = TINY | {"kimg": 1.2, "warm_kimg": 0.2, "grid_kimg": 0.4}
translate.main(context(Path(sys.argv[1]), "translate", translate=longer, common={"checkpoint_nimg": 100}))
"""


def start(root: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", RUN, str(root)], cwd=REPO, stdout=subprocess.DEVNULL)


@pytest.mark.slow
def test_translator_killed_anywhere_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYLEFACTORY_WEIGHTS", str(tmp_path))
    build(tmp_path / "straight")
    shutil.copytree(tmp_path / "straight", tmp_path / "killed")
    assert start(tmp_path / "straight").wait(300) == 0
    rng, seen = random.Random(0), list[int]()
    work = tmp_path / "killed/work" / STYLE / "translate/key"
    model = Path("models") / STYLE / "translator.safetensors"
    while len(seen) < 6:
        process = start(tmp_path / "killed")
        before = newest(work)
        while process.poll() is None and newest(work) == before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.6))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        seen.append(newest(work))
    assert len(seen) >= 3 and seen == sorted(seen) and seen[0] < 1200, seen
    assert start(tmp_path / "killed").wait(300) == 0
    straight, killed = (load_model(tmp_path / name / model, "translator").state for name in ("straight", "killed"))
    assert len(straight) > 20
    for name, weight in straight.items():
        assert torch.equal(weight, killed[name]), name
    curves = [tmp_path / name / "reports" / STYLE / "translate/stats.csv" for name in ("straight", "killed")]
    assert curves[0].read_bytes() == curves[1].read_bytes()


def newest(work: Path) -> int:
    """Images seen at the newest checkpoint, -1 before the first."""
    return max((int(path.stem.split("_")[1]) for path in work.glob("checkpoint_*.pt")), default=-1)
