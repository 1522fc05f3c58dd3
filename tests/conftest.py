"""What tests share: an output folder of their own, and the folder of real photos where there is one."""

from pathlib import Path

import pytest

from helpers import paths

SHARED = paths.SOURCE.parent / "shared"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for data lists and outputs, so that the checkout stays clean."""
    monkeypatch.setenv("PHOTO_GEOLOCATION_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real photos and published tables."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder {SHARED.name!r} beside the checkout: real photos and published tables are not there")
    return SHARED
