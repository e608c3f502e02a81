"""Fixtures every part shares."""

from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The read-only material beside the checkout; tests that need it skip where it is missing."""
    folder = REPO.parent / "shared"
    if not (folder / "README.md").is_file():
        pytest.skip("../shared is not beside this checkout")
    return folder
