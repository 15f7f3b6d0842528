"""A variant that needs another repository's files too: one download, one check, one removal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aiprod_studio.engines.hub.copies import drop_damaged, remove, verify
from aiprod_studio.engines.hub.download import download
from aiprod_studio.engines.hub.pace import DownloadProgress
from aiprod_studio.engines.hub.survey import Hub, local_survey
from aiprod_studio.errors import Cancelled
from tests.engines.test_hub_download import (
    FILES,
    NEEDED,
    QUICK,
    REPO,
    SOURCE,
    VARIANT,
    WEIGHTS,
    look,
)
from tests.loopback_hub import LoopbackHub

MORE = replace(VARIANT, name="denoiser", repo="tiny/more", files=("*.gguf",))
BOTH = replace(SOURCE, variants=(replace(VARIANT, also=("denoiser",)), MORE))
MORE_BYTES = os.urandom(50_000)


@pytest.fixture
def server() -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        hub.add_repo(REPO, FILES)
        hub.add_repo("tiny/more", {"a.gguf": MORE_BYTES})
        yield hub


@pytest.fixture
def pair(server: LoopbackHub, tmp_path: Path) -> Hub:
    return Hub(server.url, tmp_path / "hub")


def test_two_repositories_are_one_download_with_one_bar(pair: Hub) -> None:
    assert [one.name for one in BOTH.offered] == ["text"]
    found = look(pair, BOTH)
    total = NEEDED + len(MORE_BYTES)
    assert (found.total_bytes, found.missing_bytes, found.complete) == (total, total, False)
    told: list[DownloadProgress] = []
    folder = download(found, QUICK, told.append)
    assert folder == look(pair, SOURCE).folder
    assert {one.total for one in told} == {total}
    assert [one.done for one in told] == sorted(one.done for one in told)
    assert told[-1].done == total
    whole = local_survey(BOTH, BOTH.variants[0], pair)
    assert whole is not None
    assert whole.complete
    assert (whole.also[0].folder / "a.gguf").read_bytes() == MORE_BYTES


def test_a_stop_in_the_second_repository_goes_on_there(server: LoopbackHub, pair: Hub) -> None:
    server.fault("a.gguf", bytes_per_second=60_000)
    arrived = 0

    def tell(now: DownloadProgress) -> None:
        nonlocal arrived
        arrived = now.done

    with pytest.raises(Cancelled):
        download(look(pair, BOTH), QUICK, tell, lambda: arrived > NEEDED + 1000)
    half = local_survey(BOTH, BOTH.variants[0], pair)
    assert half is not None
    assert not half.complete
    assert half.present_bytes == NEEDED
    assert 0 < half.part_bytes < len(MORE_BYTES)
    before = len(server.log)
    download(look(pair, BOTH), QUICK)
    assert not any(WEIGHTS in one.path for one in server.log[before:])


def test_without_what_comes_along_it_is_not_whole(pair: Hub) -> None:
    download(look(pair, SOURCE), QUICK)
    known = local_survey(BOTH, BOTH.variants[0], pair)
    assert known is not None
    assert (known.complete, known.missing_bytes) == (False, 0)
    assert look(pair, BOTH).missing_bytes == len(MORE_BYTES)


def test_both_are_checked_repaired_and_removed_together(pair: Hub) -> None:
    folder = download(look(pair, BOTH), QUICK)
    found = look(pair, BOTH)
    (found.also[0].folder / "a.gguf").resolve().write_bytes(bytes(len(MORE_BYTES)))
    verdict = verify(found)
    assert verdict.damaged == ("a.gguf",)
    assert len(verdict.right) == 3
    drop_damaged(found, verdict)
    download(look(pair, BOTH), QUICK)
    assert verify(look(pair, BOTH)).ok
    assert remove(look(pair, BOTH)) == NEEDED + len(MORE_BYTES)
    assert not folder.exists()
    assert local_survey(BOTH, BOTH.variants[0], pair) is None
