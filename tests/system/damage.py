"""How the fuzzing tests damage files, and what a reader may do with them."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stages.common.errors import FactoryError
from stages.generate.networks import Architecture

REPO = Path(__file__).resolve().parents[2]
ARCH = Architecture(16, 12, 8, 3, channel_base=64, channel_max=8)


def fuzz(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Always the same examples: a failure here is a failure for everybody."""
    silenced = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return hypothesis_settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=silenced
    )


@contextmanager
def file_of(data: bytes, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        yield path


def refused_or_read(read: Callable[[], object], kind: type[FactoryError]) -> None:
    """The reader returns, or raises ``kind`` with one line; anything else fails the test."""
    try:
        read()
    except kind as error:
        text = str(error)
        assert text and "Traceback" not in text and "\n" not in text


@st.composite
def damaged(draw: st.DrawFn, valid: bytes, splices: tuple[bytes, ...] = ()) -> bytes:
    """Random bytes, or ``valid`` with bytes flipped, cut out, doubled, replaced by ``splices``, or cut short."""
    if draw(st.integers(0, 7)) == 0:
        return draw(st.binary(max_size=200))
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        way = draw(st.sampled_from(("flip", "cut", "double", "splice", "end")))
        if way == "flip" and data:
            data[at] = draw(st.integers(0, 255))
        elif way == "cut":
            del data[at : at + draw(st.integers(1, 20))]
        elif way == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 20))]
        elif way == "splice":
            data[at : at + draw(st.integers(0, 8))] = draw(
                st.sampled_from(splices) if splices else st.binary(max_size=8)
            )
        else:
            del data[at:]
    return bytes(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
