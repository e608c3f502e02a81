"""Who is it, and are they different: identity rank and diversity."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist
from scipy.stats import hypergeom

from stages.common.distances.arrays import Features, as_matrix


def identity_rank(
    queries: Features,
    gallery: Features,
    query_persons: Sequence[Any],
    gallery_persons: Sequence[Any],
    query_photos: Sequence[Any] | None = None,
    gallery_photos: Sequence[Any] | None = None,
) -> NDArray[np.float64]:
    """Rank of the right person among all persons of the gallery, per query; 1 is best, NaN if not in the
    gallery.

    ``queries`` [N, F] are embeddings of results, ``gallery`` [M, F] of untouched photos. A person's score is
    the best cosine similarity over that person's photos. With photo ids given, the very photo a result was
    made from is left out where the person has another one: recognising the same picture is easier than
    recognising the person.
    """
    query, known = as_matrix(queries, "query embeddings"), as_matrix(gallery, "gallery embeddings")
    owners = np.asarray(gallery_persons)
    similarity = _unit(query) @ _unit(known).T
    if query_photos is not None and gallery_photos is not None:
        same_photo = np.asarray(query_photos)[:, None] == np.asarray(gallery_photos)[None, :]
        has_other = np.array(
            [np.any((owners == person) & ~row) for person, row in zip(query_persons, same_photo, strict=True)]
        )
        similarity = np.where(same_photo & has_other[:, None], -np.inf, similarity)
    persons, member = np.unique(owners, return_inverse=True)
    scores = np.stack([similarity[:, member == i].max(axis=1) for i in range(len(persons))], axis=1)
    ranks = np.full(len(query), np.nan)
    for row, person in enumerate(query_persons):
        own = np.flatnonzero(persons == person)
        if len(own):
            # ties count against the result: a collapsed model gives everybody the same score and must not
            # rank first
            others = np.delete(scores[row], own[0])
            ranks[row] = 1 + np.sum(others >= scores[row, own[0]] - 1e-9)
    return ranks


def recognised(ranks: NDArray[np.float64], persons: int, among: int = 60, first: int = 5) -> NDArray[np.float64]:
    """Chance that the right person is among the first ``first`` of a gallery of ``among`` persons, float64 [N], 0 to 1.

    Ranks depend on how many persons there are to confuse somebody with; this does not. The gallery holds the right
    person and others drawn from all ``persons``: of the rank - 1 that come before the right one, the hypergeometric
    distribution says how many are drawn. With no more than ``among`` persons it is whether rank ≤ first; NaN stays NaN.

    Args:
        ranks: of :func:`identity_rank` in a gallery of ``persons`` persons.
    """
    others, drawn = persons - 1, min(among, persons) - 1
    chance = hypergeom.cdf(first - 1, others, np.nan_to_num(ranks, nan=1).astype(int) - 1, drawn)
    return np.where(np.isnan(ranks), np.nan, chance)


def diversity(features: Features) -> float:
    """Mean Euclidean distance between all pairs of features [N, F]; 0 for a collapsed model.

    Comparable only within one feature network and one resolution; the report gives it relative to the
    photos'.
    """
    return float(pdist(as_matrix(features)).mean())


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.clip(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12, None)
