"""The tiny pipelines, each made once in a run of the tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from aiprod_studio import settings as settings_module
from aiprod_studio.engines.catalog import cards, rows
from tests.engines.tiny_pipelines import files, save
from tests.loopback_hub import LoopbackHub

Tiny = Callable[[str], Path]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Return what gives the folder of a tiny pipeline of a kind."""
    folders: dict[str, Path] = {}

    def find(kind: str) -> Path:
        if kind not in folders:
            folders[kind] = save(kind, tmp_path_factory.mktemp("tiny") / kind)
        return folders[kind]

    return find


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """Serve a hub to this process, which downloads to a cache of the test's own."""
    with LoopbackHub() as server:
        # The Hub's library has read its environment long ago.
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder of the catalogue's rows to add to, read anew after `forget`."""
    real = settings_module.settings()
    root = tmp_path / "checkout"
    shutil.copytree(real.presets, root / "presets")
    (root / "assets").symlink_to(real.assets)
    monkeypatch.setattr(settings_module, "_ROOT", root)
    forget()
    yield root / "presets" / "models"
    monkeypatch.undo()
    forget()


def forget() -> None:
    """Make the catalogue be read again."""
    settings_module.settings.cache_clear()
    rows.cache_clear()
    cards.cache_clear()


def serve(server: LoopbackHub, repo: str, folder: Path, **more: bytes) -> None:
    """Serve the files of a folder, and more, as a repository."""
    server.add_repo(repo, {**files(folder), **more})
