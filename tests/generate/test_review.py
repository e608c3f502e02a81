"""Curation files and review: what people may write, sheets, the next round."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.common.errors import InputError
from stages.common.images import read_image, write_png
from stages.generate import fuse, generate, review, sample
from stages.generate.curation import curation_file, dropped, kept, read_decisions
from tests.generate.conftest import context
from tests.generate.test_generate import SMALL


def test_decisions_are_read_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    assert dropped(path) == {} and kept(path) == []
    path.write_text('id,decision,reason\na, Keep ,\nb,drop,"three eyes, really"\nc,,\n')
    assert kept(path) == ["a"]
    assert dropped(path) == {"b": "three eyes, really"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,decision\na,maybe\n", "a says 'maybe'"),
        ("id,verdict\na,keep\n", "column decision is missing"),
        ("id,decision\na,keep\na,drop\n", "a is both keep and drop"),
        ("", "not a readable CSV"),
    ],
)
def test_wrong_decisions_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_decisions(path)


def test_review_shows_faces_keeps_decisions_and_starts_a_round(project: Path) -> None:
    fuse.main(context(project, "fuse"))
    generate.main(context(project, "generate", generate=SMALL))
    assert review.contact_sheets(project, "toon", 6) == 6
    path = curation_file(project, "toon")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert len(table) == 6 and (table["decision"] == "").all()
    assert read_image(project / "reports/toon/review/sheet_00.png").shape[1] > 32
    with pytest.raises(InputError, match="nothing is marked keep"):
        review.accept(project, "toon", project / "raw")
    table.loc[1, "decision"], table.loc[1, "reason"] = "keep", "good, very"
    table.to_csv(path, index=False)
    assert review.contact_sheets(project, "toon", 6) == 6
    assert kept(path) == [table.loc[1, "id"]]
    assert review.accept(project, "toon", project / "raw") == 1
    write_png(project / "raw/round_glasses.png", np.zeros((8, 8, 3), np.uint8))  # an artist's own
    with pytest.raises(InputError, match="nothing is marked keep"):  # the next round's face of that id is another one
        review.accept(project, "toon", project / "raw")
    name = table.loc[1, "id"]
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert table.set_index("id").loc[name].tolist() == ["", "accepted in round 1"] and len(table) == 6
    table.loc[table["id"] == name, "decision"] = "keep"
    table.loc[len(table)] = ["pair_anna-1", "keep", "stage 2's business"]
    table.drop(columns="reason").to_csv(path, index=False)  # written by hand, nobody gave reasons
    assert review.accept(project, "toon", project / "raw") == 1
    assert kept(path) == ["pair_anna-1"]
    assert sorted(p.name for p in (project / "raw").iterdir()) == [
        f"round1_{name}.png",
        f"round2_{name}.png",
        "round_glasses.png",
    ]


def test_doubtful_faces_come_first() -> None:
    index = pd.DataFrame({"id": [f"s{i}" for i in range(20)], "realness": range(20)})
    ids = review.to_review(index, 6)
    assert ids[:3] == ["s0", "s1", "s2"] and len(ids) == len(set(ids)) == 6


def test_review_needs_generated_faces(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run the style up to generate first"):
        review.contact_sheets(tmp_path, "toon")


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "many"])
def test_wrong_counts_are_one_line_and_exit_2(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    for main, option in ((review.main, "--count"), (sample.main, "--number")):
        with pytest.raises(SystemExit) as stopped:
            main(["--style", "toon", f"{option}={text}"] if main is review.main else ["toon", f"{option}={text}"])
        assert stopped.value.code == 2
        assert f"argument {option}: '{text}' is no whole number from 1 on" in capsys.readouterr().err
