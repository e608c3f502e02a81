"""Fuse and generate on a tiny project: what they write, restart, curation, duplicates, errors."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from stages.common.dataset import STYLED_FIELDS, FaceDataset
from stages.common.errors import InputError, SettingsError, StageError
from stages.generate import fuse, generate, production, sweep_fuse
from stages.generate.latents import LatentSpace
from stages.generate.models import load_stylegan, save_stylegan
from stages.generate.networks import Architecture, Generator
from tests.generate.conftest import ARCH, context

SMALL = {
    "sampled": 10,
    "inverted": 4,
    "shard_size": 5,
    "batch": 4,
    "invert_steps": 1,
    "workers": 1,
    "face_filter": False,
}
SMALL |= {"duplicate_distance": 0.0}


def run(root: Path, **changes: object) -> pd.DataFrame:
    fuse.main(context(root, "fuse"))
    generate.main(context(root, "generate", generate=SMALL | changes))
    return pd.read_csv(root / "data/styled/toon/index.csv", dtype={"id": str, "photo_id": str})


def test_shards_index_and_latents_agree(project: Path) -> None:
    index = run(project)
    assert (index["kind"] == "sampled").sum() == 10 and (index["kind"] == "inverted").sum() == 4
    assert set(index.loc[index["kind"] == "inverted", "split"]) <= {"train", "val"}
    data = FaceDataset(project / "data/styled/toon", 32, fields=("photo", "styled", "mask"), cache=project / "cache")
    assert len(data) == 14
    heads = FaceDataset(project / "data/styled/toon", 32, fields=STYLED_FIELDS, cache=project / "cache")
    for i in range(len(data)):
        both = np.maximum(heads.get(i, "photo_mask"), heads.get(i, "styled_mask"))
        assert np.array_equal(data.get(i, "mask"), both) and heads.get(i, "styled_mask").max() == 255
    source = load_stylegan(project / "models/source/source.safetensors")[0]
    fused = load_stylegan(project / "models/toon/fused.safetensors")[0]
    with np.load(project / "data/styled/toon/latents.npz") as file:
        assert sorted(file.files) == sorted(index["id"])
        ws = torch.from_numpy(file[index["id"][3]].astype(np.float32))[None]
    for net, field in ((source, "photo"), (fused, "styled")):
        made = net.synthesis(ws, "const").clamp(-1, 1)[0].permute(1, 2, 0).numpy()
        stored = data.get(3, field) / 127.5 - 1
        assert np.abs(made - stored).mean() < 0.02  # 8 bits, float16 latents
    summary = json.loads((project / "reports/toon/generate/summary.json").read_text())
    assert summary["accepted"] == {"sampled": 10, "inverted": 4}


def test_samples_depend_on_seed_and_number_only(project: Path) -> None:
    first = run(project)
    with np.load(project / "data/styled/toon/latents.npz") as file:
        before = {name: file[name] for name in file.files}
    again = run(project, batch=3, shard_size=10)
    with np.load(project / "data/styled/toon/latents.npz") as file:
        after = {name: file[name] for name in file.files}
    assert set(first["id"]) & set(again["id"])
    for name in set(before) & set(after):
        if name.startswith("s"):
            np.testing.assert_allclose(before[name].astype(float), after[name].astype(float), atol=2e-3)


def test_a_restart_makes_only_missing_shards(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fuse.main(context(project, "fuse"))
    made: list[int] = []
    real = production.make_shard

    def dying(job: dict) -> dict:
        if job["number"] == 1 and not made.count(1):
            made.append(1)
            raise RuntimeError("killed")
        made.append(job["number"])
        return real(job)

    monkeypatch.setattr(generate, "make_shard", dying)
    with pytest.raises(RuntimeError, match="killed"):
        generate.main(context(project, "generate", generate=SMALL))
    generate.main(context(project, "generate", generate=SMALL))
    assert made.count(0) == 1
    assert len(pd.read_csv(project / "data/styled/toon/index.csv")) == 14


def test_a_run_resumed_with_other_cores_publishes_its_own_shards_only(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photos are split over the cores: three shards of the first attempt are no part of the second's one."""
    index = run(project)
    monkeypatch.setattr(generate, "_check_yield", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
    monkeypatch.setattr(generate, "workers", lambda ctx: 3)
    with pytest.raises(RuntimeError, match="killed"):
        generate.main(context(project, "generate", generate=SMALL))
    monkeypatch.undo()
    (project / "work/toon/generate/publish/shards").mkdir(parents=True)
    (project / "work/toon/generate/publish/shards/000009.tar").write_bytes(b"left by a killed run")
    pd.testing.assert_frame_equal(run(project), index)
    folder = project / "data/styled/toon"
    assert sorted(path.name for path in (folder / "shards").iterdir()) == ["000000.tar", "000001.tar", "000002of1.tar"]
    assert len(FaceDataset(folder, 32, fields=("styled",), cache=project / "cache")) == 14


def test_fewer_photos_than_asked_for_are_no_low_yield(project: Path) -> None:
    index = run(project, inverted=1000)
    assert (index["kind"] == "inverted").sum() < 14


def test_a_fused_model_with_a_mapping_of_its_own_answers_to_the_sources_w(project: Path) -> None:
    fuse.main(context(project, "fuse"))
    path = project / "models/toon/fused.safetensors"
    source = load_stylegan(project / "models/source/source.safetensors")[0]
    fused = load_stylegan(path)[0]
    ws = source.mapping(torch.randn(4, ARCH.z_dim, generator=torch.Generator().manual_seed(0)))
    wanted = fused.synthesis(ws, "const")
    same = production.load_fused(path, source)
    assert torch.equal(same.synthesis(ws, "const"), wanted)
    # the same model in other coordinates: w doubled, which its affine layers undo
    state = fused.state_dict()
    last = f"mapping.fc{ARCH.mapping_layers - 1}"
    state |= {f"{last}.{part}": 2 * state[f"{last}.{part}"] for part in ("weight", "bias")}
    state |= {name: value / 2 for name, value in state.items() if name.endswith("affine.weight")}
    fused.load_state_dict(state)
    save_stylegan(path, fused, None, {})
    assert (fused.synthesis(ws, "const") - wanted).abs().mean() > 0.01
    torch.testing.assert_close(production.load_fused(path, source).synthesis(ws, "const"), wanted, atol=1e-3, rtol=0)


def test_dropped_ids_are_left_out_and_replaced(project: Path) -> None:
    first = run(project)
    victim = first["id"][2]
    path = project / "data/curation/toon.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"id,decision,reason\n{victim},drop,three eyes\n")
    index = run(project)
    assert victim not in set(index["id"])
    assert (index["kind"] == "sampled").sum() == 10
    rejected = pd.read_csv(project / "data/styled/toon/rejected.csv", dtype={"id": str})
    assert rejected.set_index("id").loc[victim, "reason"] == "curation"


def test_near_duplicates_keep_the_first() -> None:
    torch.manual_seed(0)
    space = LatentSpace.of(Generator(ARCH).eval(), samples=500)
    w = np.random.default_rng(0).normal(size=(3, 1, 16)).astype(np.float16).repeat(8, 1)
    latents = {"a": w[0], "b": w[1], "c": w[0] + np.float16(1e-3), "d": w[2]}
    assert generate.near_duplicates(latents, space, 0.05) == {"c": "a"}
    assert generate.near_duplicates(latents, space, 0.0) == {}


def test_truncation_per_layer_repeats_the_last_value() -> None:
    settings = context(Path("/tmp"), "x", generate={"truncation": [1.0, 0.5]}).settings.generate
    assert production.truncation(settings, 4).tolist() == [1.0, 0.5, 0.5, 0.5]


def test_a_broken_model_stops_the_chain(project: Path) -> None:
    fuse.main(context(project, "fuse"))
    strict = SMALL | {"face_filter": True, "attempts": 1.0}
    generate.fit_filter(project, "toon", 32, 0.06).save(project / "work/toon/generate/filter.npz")
    loaded = generate.YieldFilter.load(project / "work/toon/generate/filter.npz")
    impossible = generate.YieldFilter(
        loaded.references, loaded.to_space, loaded.centre, {"eyes": (2.0, 1e9)}, loaded.spread
    )
    impossible.save(project / "work/toon/generate/filter.npz")
    with pytest.raises(StageError, match=r"only 0 usable faces of \d+ candidates \(eye_not_found"):
        generate.main(context(project, "generate", generate=strict))


def test_fuse_refuses_another_architecture(project: Path) -> None:
    other = Architecture(resolution=32, z_dim=16, w_dim=16, mapping_layers=1, channel_base=512, channel_max=16)
    save_stylegan(project / "models/source/source.safetensors", Generator(other).eval(), None, {})
    with pytest.raises(InputError, match="differ in architecture"):
        fuse.main(context(project, "fuse"))


def test_fuse_writes_shares_sheet_and_parents(project: Path) -> None:
    fuse.main(context(project, "fuse", fuse={"mid": 1.0}))
    summary = json.loads((project / "reports/toon/fuse/summary.json").read_text())
    assert summary["shares_of_the_high_parent"]["b8.conv1"] == pytest.approx(0.5, abs=1e-3)
    file = load_stylegan(project / "models/toon/fused.safetensors")[2]
    assert set(file.meta["parents"]) == {"source", "transferred"} and file.meta["licence"] == "test"


def test_directions_move_samples(project: Path) -> None:
    plain = run(project)
    with np.load(project / "data/styled/toon/latents.npz") as file:
        before = file[plain["id"][0]].astype(np.float32)
    run(project, directions={"turn": {"method": "pca", "component": 0, "layers": [0, 1], "low": 2, "high": 2}})
    with np.load(project / "data/styled/toon/latents.npz") as file:
        after = file[plain["id"][0]].astype(np.float32)
    moved = np.abs(after - before).max(1)
    assert (moved[:2] > 1e-2).all() and (moved[2:] < 1e-2).all()


def test_a_sweep_refuses_settings_before_it_measures(project: Path) -> None:
    settings = context(project, "fuse").settings
    for mids, widths, message in (([99.0], [0.3], "--mids: 99"), ([0.5], [0.0], "--widths: 0")):
        with pytest.raises(SettingsError, match=message):
            sweep_fuse.sweep(project, "toon", settings, mids, widths, 1, ["smooth"], 64, None)  # type: ignore[arg-type]


def test_a_direction_from_high_to_low_is_refused() -> None:
    with pytest.raises(ValidationError, match="low 2 is above high 1"):
        context(Path("/tmp"), "x", generate={"directions": {"turn": {"low": 2.0, "high": 1.0}}})
