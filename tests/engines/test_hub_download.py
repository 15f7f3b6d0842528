"""Downloads from a real server that breaks, stalls, lies and refuses."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir, snapshot_download, try_to_load_from_cache

from aiprod_studio.engines.hub import licences
from aiprod_studio.engines.hub import survey as surveys
from aiprod_studio.engines.hub.copies import drop_damaged, remove, verify
from aiprod_studio.engines.hub.download import download
from aiprod_studio.engines.hub.errors import (
    BadToken,
    CorruptFile,
    DiskFull,
    GatedRepo,
    HubBusy,
    NoNetwork,
    NotDownloaded,
    RepoGone,
    TermsNotAccepted,
)
from aiprod_studio.engines.hub.pace import DownloadProgress, Manners
from aiprod_studio.engines.hub.source import Licence, Source, Variant
from aiprod_studio.engines.hub.survey import Hub, Survey, local_survey, survey
from aiprod_studio.errors import Cancelled, ModelUnavailable
from tests.loopback_hub import LoopbackHub

REPO = "tiny/model"
WEIGHTS = "transformer/model.safetensors"
SIZE = 300_000
FILES = {
    "model_index.json": b'{"transformer": ["diffusers", "Net"]}',
    "transformer/config.json": b'{"layers": 2}',
    WEIGHTS: os.urandom(SIZE),
    "transformer_full/model.safetensors": os.urandom(1000),
    "README.md": b"about",
}
VARIANT = Variant(
    name="text",
    repo=REPO,
    revision="main",
    gated=False,
    tasks=("text",),
    files=("model_index.json", "transformer/*.json", "transformer/*.safetensors"),
    maybe=(),
    leave=(),
)
TERMS = Licence("Apache-2.0", "https://example.org/licence", "Any use.", accept=False)
SOURCE = Source("tiny", "Tiny", (1, 2), TERMS, (VARIANT,), 1)
NEEDED = sum(len(FILES[name]) for name in ("model_index.json", "transformer/config.json", WEIGHTS))
QUICK = Manners(stall_seconds=3.0, tries=3, pause_seconds=0.01)


@pytest.fixture
def server() -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        hub.add_repo(REPO, FILES)
        yield hub


@pytest.fixture
def hub(server: LoopbackHub, tmp_path: Path) -> Hub:
    return Hub(server.url, tmp_path / "hub")


def look(hub: Hub, source: Source = SOURCE) -> Survey:
    return survey(source, source.variants[0], hub, manners=QUICK)


def check_whole(found: Survey) -> None:
    """Assert that every file that is needed is where the Hub's own library looks for it."""
    for name in ("model_index.json", "transformer/config.json", WEIGHTS):
        path = try_to_load_from_cache(REPO, name, cache_dir=found.hub.cache)
        assert isinstance(path, str)
        assert Path(path).read_bytes() == FILES[name]
    assert not list(found.hub.cache.rglob("*.incomplete"))


# --- before the first byte -----------------------------------------------------------------------


def test_a_survey_knows_everything_and_fetches_nothing(server: LoopbackHub, hub: Hub) -> None:
    found = look(hub)
    assert (found.total_bytes, found.present_bytes, found.missing_bytes) == (NEEDED, 0, NEEDED)
    assert len(found.commit) == 40
    assert found.access == "open"
    assert found.free_bytes > 0
    assert not found.complete
    assert "transformer_full/model.safetensors" not in [file.path for file in found.files]
    assert [one.path for one in server.log] == [f"/api/models/{REPO}/revision/main"]
    assert not hub.cache.exists()


def test_a_licence_is_accepted_once(hub: Hub) -> None:
    strict = replace(SOURCE, licence=replace(TERMS, name="Strict", accept=True))
    with pytest.raises(TermsNotAccepted, match="--accept-licence"):
        download(look(hub, strict))
    licences.accept(strict)
    download(look(hub, strict))
    assert licences.is_accepted(strict)
    assert not licences.is_accepted(replace(strict, licence=replace(strict.licence, name="Other")))


def test_a_gated_repository_names_its_page(server: LoopbackHub, hub: Hub) -> None:
    server.add_repo(REPO, FILES, gated=True, token="good")
    for token, access in ((None, "no token"), ("other", "not accepted")):
        found = look(replace(hub, token=token))
        assert found.access == access
        assert found.total_bytes == NEEDED
        with pytest.raises(GatedRepo, match=f"{server.url}/{REPO}"):
            download(found)
    found = look(replace(hub, token="good"))
    assert found.access == "granted"
    download(found, QUICK)
    check_whole(found)
    cdn = [one for one in server.log if one.path == WEIGHTS]
    assert cdn
    assert not any(one.authorised for one in cdn)


def test_a_bad_token_costs_only_what_needs_one(server: LoopbackHub, hub: Hub) -> None:
    server.bad_tokens.add("bad")
    bad = replace(hub, token="bad")
    found = look(bad)
    assert found.access == "open"
    download(found, QUICK)
    check_whole(found)
    server.add_repo("tiny/gated", FILES, gated=True, token="good")
    gated = replace(SOURCE, variants=(replace(VARIANT, name="gated", repo="tiny/gated"),))
    with pytest.raises(BadToken, match="/settings/tokens"):
        download(look(bad, gated))
    server.add_repo("tiny/gated", FILES, private=True, token="good")
    with pytest.raises(BadToken, match="HF_TOKEN"):
        look(bad, gated)


def test_a_repository_that_is_gone_is_told(server: LoopbackHub, hub: Hub) -> None:
    found = look(hub)
    del server.repos[REPO]
    with pytest.raises(RepoGone, match=REPO):
        look(hub)
    with pytest.raises(RepoGone, match="gone or private"):
        download(found, QUICK)


def test_no_network_is_told_and_what_is_here_is_used(server: LoopbackHub, hub: Hub) -> None:
    nowhere = replace(hub, endpoint="http://127.0.0.1:9")
    with pytest.raises(NoNetwork, match="network"):
        look(nowhere)
    download(look(hub), QUICK)
    asked = len(server.log)
    assert look(nowhere).complete
    assert download(look(replace(hub, offline=True))).is_dir()
    assert len(server.log) == asked
    with pytest.raises(NotDownloaded, match="HF_HUB_OFFLINE"):
        look(replace(hub, offline=True, cache=hub.cache / "other"))


def test_a_disk_that_is_too_small_is_told_before_the_first_byte(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surveys, "RESERVE_BYTES", 2**60)
    with pytest.raises(DiskFull, match="HF_HOME"):
        download(look(hub))
    assert not hub.cache.exists()


def test_a_busy_hub_is_asked_again_as_it_wants(server: LoopbackHub, hub: Hub) -> None:
    server.fault("/api/*", status=503, retry_after="0.2")
    began = time.monotonic()
    assert look(hub).files
    assert time.monotonic() - began > 0.2
    server.fault("/api/*", status=503, times=None)
    with pytest.raises(HubBusy, match="503"):
        look(hub)


# --- what other programs have --------------------------------------------------------------------


def test_what_the_hubs_own_library_has_downloaded_is_used(server: LoopbackHub, hub: Hub) -> None:
    snapshot_download(
        REPO, endpoint=server.url, cache_dir=hub.cache, allow_patterns=["transformer/*"]
    )
    found = look(hub)
    assert found.missing_bytes == len(FILES["model_index.json"])
    snapshot_download(
        REPO, endpoint=server.url, cache_dir=hub.cache, allow_patterns=["model_index.json"]
    )
    asked = len(server.log)
    found = look(replace(hub, offline=True))
    assert found.complete
    assert verify(found).ok
    assert len(server.log) == asked


def test_what_is_downloaded_is_found_by_the_hubs_own_library(server: LoopbackHub, hub: Hub) -> None:
    folder = download(look(hub), QUICK)
    sent = server.sent("*.safetensors")
    again = snapshot_download(
        REPO, endpoint=server.url, cache_dir=hub.cache, allow_patterns=["transformer/*"]
    )
    assert Path(again) == folder
    assert server.sent("*.safetensors") == sent
    info = scan_cache_dir(hub.cache)
    assert not info.warnings
    assert [(repo.repo_id, repo.size_on_disk) for repo in info.repos] == [(REPO, NEEDED)]
    assert [one.refs for repo in info.repos for one in repo.revisions] == [frozenset({"main"})]


def test_a_disk_without_symbolic_links_stores_nothing_twice(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_SYMLINKS", True)
    found = look(hub)
    download(found, QUICK)
    check_whole(found)
    path = found.folder / WEIGHTS
    assert not path.is_symlink()
    assert path.stat().st_nlink == 2
    assert look(hub).complete


# --- broken transfers ----------------------------------------------------------------------------


def test_a_broken_transfer_goes_on_at_its_very_byte(server: LoopbackHub, hub: Hub) -> None:
    for bytes_more in (1, 65_537, 99_999, 0):
        server.fault(WEIGHTS, break_after=bytes_more)
    found = look(hub)
    download(found, QUICK)
    check_whole(found)
    assert server.sent(WEIGHTS) == [(0, 1), (1, 65_538), (65_538, 165_537), (165_537, SIZE)]


def test_patience_ends_and_what_arrived_is_kept(server: LoopbackHub, hub: Hub) -> None:
    server.fault(WEIGHTS, break_after=1000)
    server.fault(WEIGHTS, break_after=0, times=2)
    with pytest.raises(NoNetwork, match="goes on where it stopped"):
        download(look(hub), QUICK)
    found = look(hub)
    assert found.part_bytes == 1000
    assert found.missing_bytes == SIZE - 1000
    download(found, QUICK)
    check_whole(found)
    assert server.sent(WEIGHTS) == [(0, 1000), (1000, SIZE)]


def test_a_stall_is_broken_and_goes_on(server: LoopbackHub, hub: Hub) -> None:
    server.fault(WEIGHTS, stall=5.0)
    found = look(hub)
    began = time.monotonic()
    download(found, replace(QUICK, stall_seconds=0.4))
    assert time.monotonic() - began < 5.0
    check_whole(found)


def test_a_busy_cdn_is_asked_again_as_it_wants(server: LoopbackHub, hub: Hub) -> None:
    server.fault(WEIGHTS, break_after=5000)
    server.fault(WEIGHTS, status=503, retry_after="0.3")
    found = look(hub)
    began = time.monotonic()
    download(found, QUICK)
    assert time.monotonic() - began > 0.3
    check_whole(found)
    assert server.sent(WEIGHTS) == [(0, 5000), (5000, SIZE)]


def test_a_server_that_ignores_ranges_loses_nothing(server: LoopbackHub, hub: Hub) -> None:
    server.fault(WEIGHTS, break_after=100_000)
    server.fault(WEIGHTS, ignore_range=True, break_after=50_000)
    server.fault(WEIGHTS, ignore_range=True)
    found = look(hub)
    download(found, QUICK)
    check_whole(found)


def test_a_login_page_is_not_taken_for_the_hub(server: LoopbackHub, hub: Hub) -> None:
    server.fault(WEIGHTS, break_after=70_000)
    server.fault(WEIGHTS, page=True)
    found = look(hub)
    download(found, QUICK)
    check_whole(found)
    server.fault("/api/*", page=True, times=None)
    with pytest.raises(NoNetwork):
        look(replace(hub, cache=hub.cache / "other"))


def test_a_corrupt_file_is_fetched_again_once(server: LoopbackHub, hub: Hub) -> None:
    server.fault(WEIGHTS, corrupt=SIZE // 2)
    found = look(hub)
    download(found, QUICK)
    check_whole(found)
    assert server.sent(WEIGHTS) == [(0, SIZE), (0, SIZE)]


@pytest.mark.parametrize("name", [WEIGHTS, "model_index.json"])
def test_a_file_that_is_always_corrupt_is_told(server: LoopbackHub, hub: Hub, name: str) -> None:
    server.fault(name, corrupt=3, times=None)
    with pytest.raises(CorruptFile, match="checksum"):
        download(look(hub), QUICK)
    assert server.sent(name) == [(0, len(FILES[name]))] * 2


def test_an_empty_file_is_a_file(server: LoopbackHub, hub: Hub) -> None:
    server.add_repo(REPO, {**FILES, "transformer/empty.json": b""})
    found = look(hub)
    assert not found.present
    download(found, QUICK)
    assert (found.folder / "transformer/empty.json").read_bytes() == b""
    check_whole(found)


def test_a_leftover_that_is_too_long_is_not_believed(hub: Hub) -> None:
    found = look(hub)
    part = found.cache.part(next(file for file in found.files if file.path == WEIGHTS))
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(SIZE + 1))
    download(found, QUICK)
    check_whole(found)


def test_access_that_ends_in_the_middle_is_told(server: LoopbackHub, hub: Hub) -> None:
    found = look(hub)
    server.add_repo(REPO, FILES, gated=True, token="good")
    with pytest.raises(GatedRepo, match=REPO):
        download(found, QUICK)


def test_a_full_disk_keeps_what_is_there(server: LoopbackHub, hub: Hub) -> None:
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "from tests.engines.test_hub_download import *;"
        "download(look(Hub(sys.argv[1], Path(sys.argv[2]))), QUICK)"
    )
    words = [sys.executable, "-c", program, server.url, str(hub.cache)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "DiskFull" in done.stderr
    found = look(hub)
    assert found.part_bytes == 100_000
    download(found, QUICK)
    check_whole(found)
    assert server.sent(WEIGHTS)[-1] == (100_000, SIZE)


# --- pace, stop, go on ---------------------------------------------------------------------------


def test_progress_counts_every_byte_with_speed_and_time_left(server: LoopbackHub, hub: Hub) -> None:
    server.fault(WEIGHTS, bytes_per_second=600_000, times=None)
    seen: list[DownloadProgress] = []
    download(look(hub), QUICK, seen.append)
    assert [one.done for one in seen] == sorted(one.done for one in seen)
    assert {one.total for one in seen} == {NEEDED}
    assert seen[-1].done == NEEDED
    middle = [one for one in seen if 100_000 < one.done < 250_000]
    assert middle
    assert all(one.speed > 0 and one.eta is not None and one.eta < 5 for one in middle)
    assert {one.file for one in middle} == {WEIGHTS}


def test_a_limit_is_kept(hub: Hub) -> None:
    began = time.monotonic()
    download(look(hub), replace(QUICK, bytes_per_second=600_000))
    assert 0.3 < time.monotonic() - began < 5.0


def test_a_pause_keeps_every_byte_that_arrived(server: LoopbackHub, hub: Hub) -> None:
    server.fault(WEIGHTS, bytes_per_second=200_000)
    seen: list[DownloadProgress] = []
    found = look(hub)
    with pytest.raises(Cancelled):
        download(found, QUICK, seen.append, lambda: bool(seen and seen[-1].done > 100_000))
    kept = look(hub).part_bytes
    assert 100_000 < kept < SIZE
    download(look(hub), QUICK)
    check_whole(found)
    assert server.sent(WEIGHTS)[-1] == (kept, SIZE)


def test_two_downloads_at_once_share_one(server: LoopbackHub, hub: Hub) -> None:
    server.fault(WEIGHTS, bytes_per_second=600_000, times=None)
    found = look(hub)
    stages: set[str] = set()
    other = threading.Thread(target=download, args=(found, QUICK))
    other.start()
    while not found.cache.part(next(f for f in found.files if f.path == WEIGHTS)).exists():
        time.sleep(0.01)
    with pytest.raises(ModelUnavailable, match="being downloaded"):
        remove(look(hub))
    download(found, QUICK, lambda now: stages.add(now.stage))
    other.join()
    check_whole(found)
    assert "wait" in stages
    assert server.sent(WEIGHTS) == [(0, SIZE)]


def test_a_branch_that_moves_does_not_move_a_download(server: LoopbackHub, hub: Hub) -> None:
    server.fault(WEIGHTS, break_after=1000)
    server.fault(WEIGHTS, status=503, times=2)
    first = look(hub)
    with pytest.raises(HubBusy):
        download(first, QUICK)
    server.add_repo(REPO, {**FILES, "model_index.json": b"{}"})
    with pytest.raises(RepoGone, match="--update"):
        look(hub)
    newest = survey(SOURCE, VARIANT, hub, update=True, manners=QUICK)
    assert newest.commit != first.commit
    assert newest.part_bytes == 1000
    download(newest, QUICK)
    assert local_survey(SOURCE, VARIANT, hub) is not None
    assert server.sent(WEIGHTS) == [(0, 1000), (1000, SIZE)]


def test_the_hubs_own_downloader_does_it_too(server: LoopbackHub, hub: Hub) -> None:
    server.fault(WEIGHTS, break_after=1000)
    server.fault(WEIGHTS, status=503, times=2)
    with pytest.raises(HubBusy):
        download(look(hub), QUICK)
    found, seen = look(hub), []
    download(found, replace(QUICK, xet=True), seen.append)
    check_whole(found)
    assert seen[-1].done == NEEDED
    remove(look(hub))
    server.fault(WEIGHTS, corrupt=7)
    download(look(hub), replace(QUICK, xet=True))
    check_whole(found)


# --- the copies ----------------------------------------------------------------------------------


def test_a_damaged_copy_is_found_and_mended(server: LoopbackHub, hub: Hub) -> None:
    found = look(hub)
    download(found, QUICK)
    path = (found.folder / WEIGHTS).resolve()
    path.write_bytes(bytes(SIZE))
    verdict = verify(found)
    assert verdict.damaged == (WEIGHTS,)
    assert len(verdict.right) == 2
    drop_damaged(found, verdict)
    assert verify(look(hub)).missing == (WEIGHTS,)
    download(look(hub), QUICK)
    assert verify(found).ok
    assert server.sent("model_index.json") == [(0, len(FILES["model_index.json"]))]


def test_damaged_bytes_go_from_every_commit(server: LoopbackHub, hub: Hub) -> None:
    first = look(hub)
    download(first, QUICK)
    server.add_repo(REPO, {**FILES, "model_index.json": b"{}"})
    second = survey(SOURCE, VARIANT, hub, update=True)
    download(second, QUICK)
    (second.folder / WEIGHTS).resolve().write_bytes(bytes(SIZE))
    drop_damaged(second, verify(second))
    assert verify(first).missing == (WEIGHTS,)
    assert not scan_cache_dir(hub.cache).warnings
    download(look(hub), QUICK)
    assert verify(second).ok
    assert server.sent(WEIGHTS) == [(0, SIZE), (0, SIZE)]
    # The first commit still shows the configuration.
    assert remove(second) == SIZE + len(b"{}")


def test_removing_leaves_what_others_need(server: LoopbackHub, hub: Hub) -> None:
    download(look(hub), QUICK)
    snapshot_download(REPO, endpoint=server.url, cache_dir=hub.cache)
    found = look(hub)
    assert remove(found) == NEEDED
    left = {path.name for path in found.folder.rglob("*") if path.is_file()}
    assert left == {"README.md", "model.safetensors"}
    assert not scan_cache_dir(hub.cache).warnings
    with pytest.raises(NotDownloaded):
        remove(look(hub))


def test_removing_everything_leaves_no_folder(hub: Hub) -> None:
    found = look(hub)
    download(found, QUICK)
    assert remove(found) == NEEDED
    assert not found.cache.folder.exists()
