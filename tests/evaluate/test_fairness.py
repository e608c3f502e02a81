"""Groups, gaps and the permutation test."""

import numpy as np
import pandas as pd
import pytest

from stages.evaluate import fairness


def table(identity: np.ndarray) -> pd.DataFrame:
    columns = dict.fromkeys(fairness.METRICS, np.nan)
    return pd.DataFrame({"id": range(len(identity)), "person": [f"p{i // 2}" for i in range(len(identity))]}).assign(
        **(columns | {"identity": identity})
    )


def test_groupings_from_what_the_index_has() -> None:
    index = pd.DataFrame(
        {
            "ita": [60, 50, 30, 20, -10, -50, np.nan],
            "yaw": [0, -12, 30, 1, 2, 3, np.nan],
            "brightness": [10, 20, 30, 40, 50, 60, 70],
            "age": [20, 30, 50, 70, np.nan, 24.9, 25],
            "gender": ["f", "m", None, "f", "m", "f", "m"],
        }
    )
    groups = fairness.groupings(index)
    assert groups["skin tone"].tolist() == ["very light", "light", "intermediate", "tan", "brown", "dark", ""]
    assert groups["pose"].tolist()[:3] == ["frontal", "turned", "far turned"]
    assert set(groups["brightness"]) == {"dark", "medium", "bright"}
    assert groups["age"].tolist() == ["under 25", "25 to 39", "40 to 59", "60 and over", "", "under 25", "25 to 39"]
    assert groups["gender"].tolist()[2] == ""
    assert list(fairness.groupings(pd.DataFrame({"id": [1]}))) == []


def test_a_real_gap_is_found_and_chance_is_not() -> None:
    rng = np.random.default_rng(0)
    names = pd.Series(["a"] * 40 + ["b"] * 40)
    apart = table(np.concatenate([rng.normal(0.9, 0.05, 40), rng.normal(0.6, 0.05, 40)]))
    (gap,) = fairness.largest_gaps(apart, {"group": names}, least=8)
    assert (gap.best, gap.worst) == ("a", "b")
    assert gap.estimate.value == pytest.approx(0.3, abs=0.05)
    assert gap.estimate.low > 0.2
    assert gap.chance < 0.01
    same = table(rng.normal(0.8, 0.1, 80))
    (gap,) = fairness.largest_gaps(same, {"group": names}, least=8)
    assert gap.chance > 0.05


def test_pictures_of_one_person_stay_together() -> None:
    # two persons with 20 pictures each differ; that is no evidence about groups
    values = pd.DataFrame({"id": range(40), "person": ["p"] * 20 + ["q"] * 20, "identity": [0.9] * 20 + [0.5] * 20})
    for metric in fairness.METRICS:
        values[metric] = values["identity"]
    names = pd.Series(["a"] * 20 + ["b"] * 20)
    assert all(gap.chance > 0.4 for gap in fairness.largest_gaps(values, {"group": names}, least=8))


def test_small_groups_are_not_compared() -> None:
    values = table(np.linspace(0, 1, 20))
    names = pd.Series(["a"] * 17 + ["b"] * 3)
    assert fairness.largest_gaps(values, {"group": names}, least=8) == []
    assert fairness.worst_gap([], "identity") is None
    rows = fairness.by_group(values, {"group": names})
    assert set(rows["group"]) == {"a", "b"}
    assert int(rows[(rows.group == "b") & (rows.metric == "identity")]["n"].iloc[0]) == 3


def test_differences_nobody_can_see_are_no_gap() -> None:
    names = pd.Series(["a"] * 20 + ["b"] * 20)
    scores = np.concatenate([np.full(20, 45.0), np.full(20, 56.0)])
    unseen, seen = (table(np.full(40, np.nan)).assign(background_psnr=s) for s in (scores, scores - 15))
    (gap,) = fairness.largest_gaps(unseen, {"group": names}, least=8)
    assert gap.estimate.value == 0
    (gap,) = fairness.largest_gaps(seen, {"group": names}, least=8)
    assert gap.estimate.value == pytest.approx(10)
