"""The wrapper: what ran, why it failed, and that DVC is never left believing something untrue."""

import json
import subprocess
import threading
import time

import pytest

from pipeline import dvc, inputs, params, status
from pipeline.lock import checkout_lock
from pipeline.plan import plan
from stages.common.errors import BusyError, DiskFullError

ALL = ["photos", "style_faces@one", "transfer@one", "fuse@one", "export@one", "evaluate@one"]


def states(project):
    return {
        f"{row.stage}@{row.style}" if row.style else row.stage: row.state for row in status.survey(project, ["one"])
    }


def test_status_and_plan_of_a_chain_never_built(factory):
    assert set(states(factory).values()) == {"missing"}
    assert plan(factory, "one") == ["weights", *ALL]
    assert plan(factory, "one", upto="style_faces") == ["weights", "style_faces@one"]


def test_finished_chain_has_nothing_to_do_and_a_setting_only_reruns_what_follows(built):
    assert plan(built, "one") == []
    assert set(states(built).values()) == {"done"}
    assert plan(built, "one", force=True) == ["evaluate@one"]
    params.edit(built.params, lambda tree: params.set_value(tree, "styles.one.fuse.mid", 0.5))
    assert plan(built, "one") == ["fuse@one", "export@one", "evaluate@one"]
    found = {row.stage: row for row in status.survey(built, ["one"])}
    assert (found["fuse"].state, found["fuse"].why) == ("stale", "setting styles.one.fuse modified")
    assert (found["export"].state, found["export"].why) == ("stale", "after fuse@one")
    assert found["transfer"].state == "done" and found["transfer"].size > 0


def test_reproduce_runs_once_and_reports_lines(built):
    params.edit(built.params, lambda tree: params.set_value(tree, "styles.one.fuse.mid", 0.5))
    lines: list[str] = []
    run = dvc.reproduce(built, "fuse@one", on_line=lines.append)
    assert run.ran and "fuse@one: done in 0 s" in lines
    assert not any("git add" in line or "dvc config" in line for line in lines)
    assert not dvc.reproduce(built, "fuse@one", on_line=lines.append).ran
    assert (built.root / "models/one/fused.safetensors").read_bytes().endswith(b"mid 0.5")


def test_a_stages_own_exit_code_and_message_come_through(built):
    (built.root / "pictures/one/broken.png").write_bytes(b"x")
    with pytest.raises(dvc.StageFailed, match=r"style_faces@one: .*0 of 1 pictures usable") as failure:
        dvc.reproduce(built, "style_faces@one", on_line=lambda _line: None)
    assert (failure.value.exit_code, failure.value.transient) == (3, False)
    assert states(built)["style_faces@one"] == "failed"


def test_time_out_kills_and_says_so(built, monkeypatch):
    monkeypatch.setenv("FAKE_STEPS", "1000")
    monkeypatch.setenv("FAKE_STEP_S", "0.1")
    with pytest.raises(dvc.StageFailed, match="killed after"):
        dvc.reproduce(built, "transfer@one", force=True, timeout_s=4, on_line=lambda _line: None)
    assert states(built)["transfer@one"] != "running"


def test_too_little_disk_is_transient(built):
    with pytest.raises(DiskFullError, match=r"ops\.min_free_gb"):
        dvc.reproduce(built, "fuse@one", min_free_gb=1e9)
    assert DiskFullError.transient


def test_second_run_waits_or_says_who_holds_the_lock(built):
    said: list[str] = []
    with checkout_lock(built, "transfer@one"):
        with pytest.raises(BusyError, match=r"process \d+ is running transfer@one"):
            dvc.reproduce(built, "fuse@one", wait=False)
        waiting = threading.Thread(target=dvc.reproduce, args=(built, "fuse@one"), kwargs={"on_line": said.append})
        waiting.start()
        time.sleep(1)
        assert waiting.is_alive() and "running transfer@one" in said[0]
    waiting.join(timeout=20)
    assert not waiting.is_alive()


def test_marks_of_a_killed_dvc_do_not_block_the_next_run(built):
    marks = built.root / ".dvc/tmp/rwlock"
    dead = subprocess.Popen(["true"])
    dead.wait()
    for text in ("", json.dumps({str(built.root / "models/one/fused.safetensors"): {"write": {"pid": dead.pid}}})):
        marks.write_text(text)
        run = dvc.reproduce(built, "fuse@one", force=True, on_line=lambda _line: None)
        assert run.ran


def change_while_it_runs(project, monkeypatch, change):
    monkeypatch.setenv("FAKE_STEPS", "20")
    monkeypatch.setenv("FAKE_STEP_S", "0.1")

    def on_line(line: str) -> None:
        if line.startswith("step 2/"):
            change()

    with pytest.raises(dvc.StageFailed, match="changed while it ran") as failure:
        dvc.reproduce(project, "transfer@one", force=True, on_line=on_line)
    assert failure.value.transient


def test_settings_changed_during_a_run_are_never_recorded_as_its_own(built, monkeypatch):
    change_while_it_runs(
        built,
        monkeypatch,
        lambda: params.edit(built.params, lambda tree: params.set_value(tree, "common.seed", 7)),
    )
    assert "transfer@one" in plan(built, "one")
    monkeypatch.setenv("FAKE_STEP_S", "0")
    run = dvc.reproduce(built, "transfer@one", on_line=lambda _line: None)
    assert run.ran  # not restored from the run-cache either
    assert dvc.changed(built).keys().isdisjoint({"transfer@one"})


def test_a_note_of_a_killed_run_with_other_settings_makes_dvc_forget_it(built):
    taken = inputs.signature(built, "fuse@one")
    inputs.write_note(built, "fuse@one", taken, time.time())
    assert inputs.note_before(built, "fuse@one") == taken
    assert "fuse@one" not in dvc.changed(built)
    inputs.write_note(built, "fuse@one", "something else", time.time())
    inputs.note_before(built, "fuse@one")
    assert "fuse@one" in dvc.changed(built)


def test_signature_follows_settings_overrides_and_peoples_files_only(built):
    first = inputs.signature(built, "style_faces@one")
    params.edit(built.params, lambda tree: params.set_value(tree, "fuse.mid", 0.5))
    assert inputs.signature(built, "style_faces@one") == first
    (built.root / "pictures/one/new.png").write_bytes(b"new")
    assert inputs.signature(built, "style_faces@one") != first
