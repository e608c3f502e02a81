"""The pages: self-contained, small, complete, honest about what is missing; compare refuses unequal runs."""

import json
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.common.errors import InputError
from stages.common.images import read_image, write_png
from stages.evaluate import charts, compare, history, model_card, overview, report
from stages.evaluate.page import Album
from tests.evaluate import checkout

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkout")
    checkout.make(root, quality=0.5, seed=1)
    checkout.make(root, quality=1.0, seed=2)
    checkout.make(root, quality=0.4, style="gouache", seed=3)
    return root


class Page(HTMLParser):
    """Collects what a browser would fetch, and checks that elements are closed in order."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: set[str] = set()
        self.anchors: set[str] = set()
        self.open: list[str] = []
        self.mistakes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        for name in ("src", "srcset", "data"):
            if values.get(name):
                self.fetched.append(str(values[name]))
        if tag in ("link", "script", "iframe"):
            self.fetched.append(tag)
        if tag == "img" and not (values.get("alt") and values.get("src")):
            self.mistakes.append(f"img without alt or picture: {values.get('alt')}")
        if values.get("id"):
            self.ids.add(str(values["id"]))
        if str(values.get("href", "")).startswith("#"):
            self.anchors.add(str(values["href"])[1:])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """SVG shapes."""

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.mistakes.append(f"</{tag}> out of order")


def parse(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def test_report_is_one_small_file_that_fetches_nothing(built: Path) -> None:
    start = time.perf_counter()
    path = report.write_report(built, checkout.STYLE, checkout.settings())
    assert time.perf_counter() - start < 30  # 2 s on an idle machine
    assert path.stat().st_size < 5e6
    page = parse(path)
    assert not page.mistakes
    assert not page.open
    assert all(uri.startswith("data:image/") for uri in page.fetched)
    assert page.anchors <= page.ids
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"data:image/[^\"]*", "", text))


def test_report_shows_what_a_decision_needs(built: Path) -> None:
    text = report.write_report(built, checkout.STYLE, checkout.settings()).read_text(encoding="utf-8")
    metrics = json.loads((built / "reports/avatar/evaluate/metrics.json").read_text())
    for row in metrics["rows"].values():
        assert row["title"].replace("'", "&#39;") in text
    for wanted in ("Colour transfer", "too dark", "Transfer", "+ perceptual", "p000_0", "limit_", "Earlier runs"):
        assert wanted in text, wanted
    assert "no figure here is a FID" in text
    assert text.count("<img") > 60


def test_report_without_an_evaluation_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="evaluate"):
        report.write_report(tmp_path, checkout.STYLE, checkout.settings())


def test_report_survives_missing_and_broken_files(built: Path, tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    shutil.copytree(built, root)
    reports = root / "reports/avatar"
    shutil.rmtree(reports / "evaluate/worst")
    shutil.rmtree(reports / "transfer")
    (reports / "evaluate/stress.png").write_bytes(b"not a picture")
    (reports / "translate/summary.json").write_text("{broken")
    (reports / "mobile/stats.csv").write_text("")
    (reports / "evaluate/groups.csv").write_text("grouping,group,metric,value,low,high,n\n")
    page = parse(report.write_report(root, checkout.STYLE, checkout.settings()))
    assert not page.mistakes
    assert "stress.png (unreadable)" in (reports / "report.html").read_text(encoding="utf-8")


def test_user_text_is_escaped(built: Path, tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    shutil.copytree(built, root)
    path = root / "reports/avatar/evaluate/metrics.json"
    metrics = json.loads(path.read_text())
    metrics["rows"]["seam"]["reason"] = "<script>alert(1)</script>"
    path.write_text(json.dumps(metrics))
    assert "<script>" not in report.write_report(root, checkout.STYLE, checkout.settings()).read_text(encoding="utf-8")


def test_pictures_stay_within_the_budget() -> None:
    album = Album(budget=70_000)
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    assert album.picture(noise, "first.png").startswith("data:image/jpeg")
    uris = [album.picture(noise, f"{i}.png") for i in range(4)]
    assert uris[-1] == ""
    assert "3.png" in album.left_out
    flat = np.zeros((32, 32, 3), np.uint8)
    assert album.picture(flat, "flat.png").startswith("data:image/png")


def test_numbers_as_people_read_them() -> None:
    shown = [charts.number(v) for v in (0.12345, 1234567.0, -0.5, 0, None, float("nan"), 1e-5, 31.4159, 12)]
    assert shown == ["0.123", "1\u2009234\u2009567", "−0.500", "0", "–", "–", "1.0e-05", "31.4", "12"]
    assert charts.ticks(0, 10) == [0, 5, 10]
    assert charts.line([], [], "nothing") == ""
    assert "polyline" in charts.line([0, 1, 2], [1.0, float("nan"), 3.0], "x")
    assert charts.histogram([1.0], float("nan"), "one") == ""


def test_overview_lists_styles_and_earlier_runs(built: Path) -> None:
    path = overview.write_overview(built)
    page = parse(path)
    text = path.read_text(encoding="utf-8")
    assert not page.mistakes
    assert "gouache" in text
    assert "2 runs" in text
    assert all(uri.startswith("data:image/") for uri in page.fetched)


def test_history_replaces_an_equal_run_and_survives_damage(tmp_path: Path) -> None:
    row = {"value": 0.5, "low": None, "high": None, "n": 9, "state": "pass"}
    run = {"verdict": "pass", "rows": {"style_gap": row}, "hashes": {"a": "1"}, "when": "2026-01-01"}
    history.append(tmp_path, "s", run)
    history.append(tmp_path, "s", run | {"when": "2026-01-02"})
    assert [entry["when"] for entry in history.read(tmp_path, "s")] == ["2026-01-02"]
    history.append(tmp_path, "s", run | {"hashes": {"a": "2"}})
    file = history.history_file(tmp_path, "s")
    file.write_text(file.read_text() + "{broken\n")
    assert len(history.read(tmp_path, "s")) == 2
    assert history.read(tmp_path, "other") == []


def test_compare_styles_and_folders(built: Path) -> None:
    text, path = compare.compare("avatar", "gouache", built)
    assert "A is better" in text
    assert "Style gap" in text
    page = parse(path)
    assert not page.mistakes
    assert len(page.fetched) >= 3 * 8


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kinds": {"features": "inception"}}, "features"),
        ({"kinds": {"side": 256}}, "resolution"),
        ({"kinds": {"split": "photos all, style test"}}, "split"),
        ({"kinds": {"fingerprint": "ff"}}, "feature network"),
        ({"kinds": {"identity": "landmark geometry"}}, "identity"),
        ({"n": {"photos": 7}}, "N of test photos"),
    ],
)
def test_compare_refuses_unequal_runs(built: Path, tmp_path: Path, change: dict, reason: str) -> None:
    folder = tmp_path / "other"
    shutil.copytree(built / "reports/gouache/evaluate", folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    for key, values in change.items():
        metrics[key] |= values
    (folder / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(InputError, match=reason):
        compare.compare("avatar", str(folder), built)


def test_compare_needs_evaluations(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="no evaluation"):
        compare.compare("avatar", "nobody", built)
    assert compare.main(["nobody", "else"]) == 3
    assert "compare:" in capsys.readouterr().err


@pytest.mark.parametrize("browser", [True, False])
def test_a_report_that_no_browser_can_open_is_still_named(
    built: Path, browser: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(report.webbrowser, "open", lambda uri: opened.append(uri) or browser)
    monkeypatch.chdir(built)
    assert report.main(["--style", "avatar", "--open", "--params", str(PARAMS)]) == 0
    said = capsys.readouterr()
    assert opened == [(built / "reports/avatar/report.html").as_uri()]
    assert ("no browser found" in said.out + said.err) != browser


@pytest.mark.slow
def test_compare_reads_an_earlier_revision(built: Path, tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    (root / "reports").mkdir(parents=True)
    shutil.copytree(built / "reports/avatar", root / "reports/avatar")

    def call(*command: str) -> None:
        subprocess.run(command, cwd=root, check=True, capture_output=True)

    dvc = str(Path(compare.sys.executable).parent / "dvc")
    call("git", "init", "-q")
    call(dvc, "init", "-q")
    call(dvc, "config", "core.analytics", "false")
    call(dvc, "add", "reports/avatar/evaluate")
    call("git", "add", "-A")
    call("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "first")
    call("git", "tag", "v1")
    text, _ = compare.compare("avatar@v1", "avatar", root)
    assert "avatar@v1" in text
    with pytest.raises(InputError, match="no evaluation at that revision"):
        compare.compare("avatar@v2", "avatar", root)


def test_model_card(built: Path) -> None:
    path = model_card.write_card(built, checkout.STYLE, checkout.settings())
    text = path.read_text(encoding="utf-8")
    for wanted in ("Verdict:", "Not for:", "Style gap", "## Limits", "--contains", "No figure here is a FID"):
        assert wanted in text, wanted
    assert "\n\n\n\n" not in text
    assert "none of which any stage was trained on" in text
    metrics = built / "reports" / checkout.STYLE / "evaluate" / "metrics.json"
    changed = json.loads(metrics.read_text())
    before = metrics.read_bytes()
    for split, wanted in (
        ("photos all, style test", "not all held out"),
        ("photos test, style val", "snapshots were chosen"),
    ):
        changed["kinds"]["split"] = split
        try:
            metrics.write_text(json.dumps(changed))
            card = model_card.write_card(built, checkout.STYLE, checkout.settings()).read_text(encoding="utf-8")
        finally:
            metrics.write_bytes(before)
        assert wanted in card and split in card and "none of which" not in card
    with pytest.raises(InputError, match="not evaluated"):
        model_card.write_card(built, "nobody", checkout.settings())


def test_tables_are_complete(built: Path) -> None:
    folder = built / "reports/avatar/evaluate"
    pictures = pd.read_csv(folder / "pictures.csv")
    assert len(pictures) == 32
    worst = pd.read_csv(folder / "worst/worst.csv")
    assert set(worst["id"]) <= set(pictures["id"])
    assert (worst.groupby("metric")["rank"].max() <= 20).all()
    strip = read_image(folder / "faces" / f"{pictures['id'][0]}.png")
    assert strip.shape == (64, 64 * 5, 3)
    assert {"photo", "colour", "translator", "torch", "mnn", "style"} == set(
        pd.read_csv(folder / "systems.csv")["system"]
    )


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1280, 3000), (500, 3000)])
@pytest.mark.parametrize("dark", [False, True])
def test_page_in_chromium(built: Path, tmp_path: Path, width: int, height: int, dark: bool) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    page = report.write_report(built, checkout.STYLE, checkout.settings())
    shot = tmp_path / "shot.png"
    quiet = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
    calm = (
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        f"--user-data-dir={tmp_path / 'profile'}",
    )
    theme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    size = (f"--window-size={width},{height}", f"--screenshot={shot}", page.resolve().as_uri())
    command = [browser, "--headless", "--no-sandbox", *quiet, *calm, theme, *size]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    image = read_image(shot)
    write_png(tmp_path / "seen.png", image)
    assert image.shape[1] == width
    corner = image[height // 2, 2].mean()
    assert corner < 60 if dark else corner > 200
    # nothing sticks out: the right margin has the page's colour all the way down
    margin = image[400:, -6:].reshape(-1, 3).astype(int)
    assert (np.abs(margin - margin[0]).max(axis=1) < 12).mean() > 0.98
