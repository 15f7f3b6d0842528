"""What a person chose for all downloads: the folder of the weights and the token."""

import stat
from pathlib import Path

import pytest
from huggingface_hub import constants

from aiprod_studio.engines.hub.choices import choose_folder, forget_token, keep_token
from aiprod_studio.engines.hub.survey import this_hub
from aiprod_studio.errors import BadRequest, StudioError


def test_a_chosen_folder_is_where_weights_go(tmp_path: Path) -> None:
    usual = this_hub().cache
    choose_folder(f" {tmp_path / 'weights'} ")
    assert this_hub().cache == tmp_path / "weights"
    assert list((tmp_path / "weights").iterdir()) == []
    choose_folder("")
    assert this_hub().cache == usual


def test_the_home_of_a_hub_stands_for_its_cache(tmp_path: Path) -> None:
    (tmp_path / "hf" / "hub" / "models--a--b").mkdir(parents=True)
    choose_folder(str(tmp_path / "hf"))
    assert this_hub().cache == tmp_path / "hf" / "hub"
    choose_folder(str(tmp_path / "hf" / "hub"))
    assert this_hub().cache == tmp_path / "hf" / "hub"


def test_a_folder_that_takes_nothing_is_refused(tmp_path: Path) -> None:
    usual = this_hub().cache
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StudioError, match="not a folder"):
        choose_folder(str(tmp_path / "file" / "weights"))
    with pytest.raises(BadRequest, match="whole path"):
        choose_folder("weights")
    assert this_hub().cache == usual


def test_a_token_is_kept_for_this_person_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hf" / "token"
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(path))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    keep_token("hf_one")
    assert this_hub().token == "hf_one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    forget_token()
    assert this_hub().token is None
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    for refused in (lambda: keep_token("hf_two"), forget_token):
        with pytest.raises(BadRequest, match="HF_TOKEN"):
            refused()
