import json

import cv2
import numpy as np
import pytest

from stages.common.errors import InputError
from stages.faces.detect import FaceDetector
from stages.faces.drawn import merge
from stages.faces.locate import face_at, face_in_alpha, face_in_centre, on_grey, read_landmarks
from stages.faces.look import PATCH, Candidate, Look, learn_look, patch_at
from stages.faces.places import choose_face, recall_face, refine, search
from stages.faces.siblings import share, silhouette
from tests.faces.helpers import draw_head


def grey_of(rgba: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(on_grey(rgba), cv2.COLOR_RGB2GRAY)


def candidate(rgba: np.ndarray, marks: dict) -> Candidate:
    face = face_at(marks["eye_l"], marks["eye_r"], marks["mouth"], "haar")
    patch = patch_at(grey_of(rgba), face).ravel()
    contrast = float(patch.std())
    patch = patch - patch.mean()
    reach = (face.eye_r[0] - face.eye_l[0]) / min(rgba.shape[:2])
    return Candidate(face, patch / np.linalg.norm(patch), 2, contrast, reach)


@pytest.fixture(scope="module")
def look() -> Look:
    return learn_look({f"{seed}.png": [candidate(*draw_head(seed))] for seed in range(16)})


def off(face, marks) -> float:
    eyes = np.array([face.eye_l, face.eye_r])
    return float(np.linalg.norm(eyes - [marks["eye_l"], marks["eye_r"]], axis=1).max() / 30)


def test_what_recurs_becomes_a_template(look):
    assert 1 <= len(look.templates) <= 12 and look.contrast > 5
    assert look.reach[0] < 30 / 160 < look.reach[1]


def test_too_few_or_unlike_pictures_give_no_template():
    draw = np.random.default_rng(0)
    noise = {}
    for i in range(20):
        patch = draw.normal(size=candidate(*draw_head(0)).patch.size).astype(np.float32)
        noise[str(i)] = [Candidate(face_at((1, 1), (9, 1), None, "haar"), patch / np.linalg.norm(patch), 1, 20, 0.2)]
    assert learn_look(noise).templates == [] and learn_look({}).templates == []


def clusters(draw: np.random.Generator, count: int) -> dict[str, list[Candidate]]:
    """Candidates of three kinds of made-up faces, each a little different."""
    kinds = []
    for kind in range(3):
        half = np.random.default_rng(kind).normal(size=(PATCH[1], PATCH[0]))
        kinds.append((half + half[:, ::-1]).ravel())
    result = {}
    for _ in range(count):
        patch = kinds[draw.integers(3)] + 0.5 * draw.normal(size=PATCH[0] * PATCH[1])
        patch -= patch.mean()
        patch = (patch / np.linalg.norm(patch)).astype(np.float32)
        face = face_at((1, 1), (9, 1), None, "haar")
        contrast, reach = float(draw.normal(50, 2)), float(draw.normal(0.2, 0.01))
        result[str(draw.integers(1 << 60))] = [Candidate(face, patch, int(draw.integers(1, 5)), contrast, reach)]
    return result


def test_adding_pictures_rarely_changes_a_template():
    kept = total = 0
    for seed in range(4):
        draw = np.random.default_rng(seed)
        few = clusters(draw, 300)
        more = few | clusters(draw, 10)
        before, after = learn_look(few).names(), learn_look(more).names()
        assert len(before) == len(after) == 3
        kept, total = kept + len(set(before) & set(after)), total + 3
        assert learn_look(dict(reversed(more.items()))).names() == after  # the set decides, not its order
    assert kept / total > 0.5


def test_templates_of_a_large_set_come_from_a_bounded_part(monkeypatch):
    monkeypatch.setattr("stages.faces.look.MOST_PICTURES", 60)
    assert len(learn_look(clusters(np.random.default_rng(0), 300)).templates) == 3


def test_what_a_template_found_is_remembered(look):
    rgba, _ = draw_head(44)
    loads = []

    def load() -> np.ndarray:
        loads.append(1)
        return rgba

    first, second = Look(look.templates[:1], look.contrast, look.reach), look
    memory: dict = {}
    assert recall_face(load, [], first, memory)[0] is not None and loads
    loads.clear()
    again = json.loads(json.dumps(memory))
    assert recall_face(load, [], first, again)[0] == recall_face(load, [], first, memory)[0] and not loads
    # another limit, or another template: other names, so nothing old is used
    recall_face(load, [], Look(look.templates[:1], look.contrast + 1, look.reach), memory)
    assert loads
    assert recall_face(load, [], second, again) == choose_face(rgba, [], second)


def test_wrong_candidate_is_overruled_by_the_look(look):
    rgba, marks = draw_head(40)
    wrong = face_at((40, 130), (80, 130), (60, 155), "haar", score=99)
    right = face_at((67, 80), (97, 79), (82, 109), "haar", score=1)
    face, likeness = choose_face(rgba, [wrong, right], look)
    assert face is not None and likeness > 0.6 and off(face, marks) < 0.15


def test_face_without_candidates_is_searched(look):
    rgba, marks = draw_head(41, shift=(12, -8))
    face, _ = choose_face(rgba, [], look)
    assert face is not None and face.method == "set" and off(face, marks) < 0.25


def test_nothing_is_found_where_nothing_is(look):
    empty = np.full((160, 160, 4), 255, np.uint8)
    assert choose_face(empty, [], look) == (None, 0.0)
    found = search(np.full((160, 160), 128, np.uint8), look)
    assert len(found) == len(look.templates) and all(place is None or place[1] <= 0 for place in found)


def test_without_a_look_the_detector_decides():
    rgba, _ = draw_head(1)
    faces = [face_at((60, 70), (90, 70), None, "haar", 5), face_at((10, 10), (30, 10), None, "haar", 1)]
    assert choose_face(rgba, faces, Look([]))[0] is faces[0]
    face, _ = choose_face(rgba, [], Look([]))
    assert face is not None and face.method == "alpha"


def test_refinement_moves_a_shifted_face_back(look):
    rgba, marks = draw_head(42)
    start = face_at((69, 82), (102, 82), (85, 112), "haar")
    face, _ = max(refine(grey_of(rgba), start, look), key=lambda place: place[1])
    assert off(face, marks) < 0.6 * off(start, marks)


def test_finds_of_several_passes_are_merged():
    faces = [face_at((60, 70), (90, 70), None, "haar", s) for s in (1, 3, 2)]
    faces.append(face_at((10, 10), (30, 10), None, "haar", 9))
    merged = merge(faces)
    assert [count for _, count in merged] == [1, 3] and merged[1][0].score == 3


def test_variants_of_one_outline_share_a_trusted_place():
    pictures = [draw_head(0)[0] for _ in range(4)] + [draw_head(0, shift=(25, 10))[0]]
    good = face_at((65, 78), (95, 78), (80, 107), "haar")
    bad = face_at((20, 20), (50, 20), (35, 49), "haar")
    faces = [good, good, None, bad, bad]
    outlines = [silhouette(p) for p in pictures]
    result = share(faces, [0.9, 0.9, 0.0, 0.3, 0.3], outlines, [(160, 160)] * 5)
    assert result[2] is good and result[3] is good
    assert result[4] is bad  # another outline: nothing is known about it
    assert silhouette(pictures[0][..., :3]) is None


def test_silhouette_alignment_cuts_the_bust_off():
    rgba, marks = draw_head(3)
    face = face_in_alpha(rgba[..., 3])
    assert face is not None and off(face, marks) < 0.6
    assert face_in_alpha(np.zeros((50, 50), np.uint8)) is None


def test_centre_takes_the_central_square():
    face = face_in_centre((100, 200, 3))
    assert face.eye_l == pytest.approx((87.5, 47.25)) and face.eye_r == pytest.approx((112.5, 47.25))


@pytest.mark.parametrize("text", ["", "file,eye_l_x\na,1\n", "file,eye_l_x,eye_l_y,eye_r_x,eye_r_y\na.png,1,x,2,3\n"])
def test_unusable_landmark_tables_say_so(tmp_path, text):
    (tmp_path / "landmarks.csv").write_text(text)
    with pytest.raises(InputError, match=r"landmarks\.csv"):
        read_landmarks(tmp_path)


def test_landmarks_without_mouth_and_swapped_eyes(tmp_path):
    (tmp_path / "landmarks.csv").write_text("file,eye_l_x,eye_l_y,eye_r_x,eye_r_y\na.png,30,5,10,6\n")
    face = read_landmarks(tmp_path)["a.png"]
    assert face.eye_l == (10, 6) and face.eye_r == (30, 5) and face.mouth is None
    assert read_landmarks(tmp_path / "nowhere") == {}


def test_missing_yunet_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("STYLEFACTORY_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError, match="face_detection_yunet"):
        FaceDetector("yunet", tmp_path)
    assert FaceDetector("auto", tmp_path).name == "haar"
    (tmp_path / "face_detection_yunet.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match="not a YuNet"):
        FaceDetector("auto", tmp_path)
