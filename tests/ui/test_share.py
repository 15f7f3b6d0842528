"""Sharing: addresses, passwords, and what the owner is told of them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from aiprod_studio.cli import main
from aiprod_studio.errors import BadRequest, StudioError
from aiprod_studio.ui.gate import keep_password
from aiprod_studio.ui.guard import Hosts, is_own
from aiprod_studio.ui.share import LETTERS, Secret, Sharing, announce
from aiprod_studio.ui.texts import Texts


def test_a_made_up_password_is_long_and_another_one_each_time() -> None:
    secrets = {Sharing().secret().password for _ in range(20)}
    assert len(secrets) == 20
    for secret in secrets:
        assert len(secret.replace("-", "")) == 15
        assert set(secret) <= {*LETTERS, "-"}


def test_a_password_of_ones_own_may_hold_anything() -> None:
    assert Sharing(auth="anna:a:b c").secret() == Secret("anna", "a:b c")
    for wrong in ("anna", "anna:", ":secret", ""):
        with pytest.raises(BadRequest, match="anna:secret"):
            Sharing(auth=wrong)


def test_only_the_right_name_and_password_fit() -> None:
    kept = keep_password("änna", "secret")
    assert kept.fits("änna", "secret")
    assert not kept.fits("änna", "Secret")
    assert not kept.fits("anna", "secret")
    assert b"secret" not in kept.digest
    assert keep_password("", "secret").fits("whoever", "secret")


@pytest.mark.parametrize(
    ("host", "asked", "known"),
    [
        (None, "127.0.0.1:7861", True),
        (None, "192.168.0.7:7861", False),
        ("192.168.0.7", "192.168.0.7:7861", True),
        ("192.168.0.7", "192.168.0.8:7861", False),
        ("192.168.0.7", "localhost:7861", False),
        ("Studio.lan", "studio.lan:7861", True),
        ("0.0.0.0", "192.168.0.7:7861", True),
        ("0.0.0.0", f"{socket.gethostname()}:7861", True),
        ("0.0.0.0", "evil.example:7861", False),
        ("::", "[fd00::7]:7861", True),
        ("[fd00::7]", "[fd00::7]:7861", True),
    ],
)
def test_a_shared_page_answers_to_its_own_names(host: str | None, asked: str, known: bool) -> None:
    hosts = Sharing(host).hosts()
    assert is_own([(b"host", asked.encode())], hosts) is known
    origins = [(f"http://{asked}", known), ("https://evil.example", False)]
    for origin, own in origins:
        headers = [(b"host", asked.encode()), (b"origin", origin.encode())]
        assert is_own(headers, hosts) is own


def test_a_taken_port_is_passed_over_and_a_foreign_address_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert Sharing("127.0.0.1").free_port(port) > port
    with pytest.raises(StudioError, match=r"0\.0\.0\.0 for all"):
        Sharing("192.0.2.1").free_port(7861)


def test_the_owner_is_told_what_to_pass_on() -> None:
    say = Texts("en")
    lines = list(announce("http://192.168.0.7:7861/", Secret("", "abc-def"), say))
    assert lines[:2] == ["Shared at http://192.168.0.7:7861/", "Password: abc-def"]
    assert lines[-1].count("█") > 100
    own = "".join(announce("http://192.168.0.7:7861/", Secret("anna", "secret"), say))
    assert "secret" not in own
    assert Sharing("192.168.0.7").address(7861, Hosts(set())) == "http://192.168.0.7:7861/"


@pytest.mark.parametrize("server", [None, "127.0.0.1:9"], ids=["no server", "no program"])
def test_a_link_that_cannot_be_had_is_a_sentence(
    server: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    # These were read when Gradio was imported.
    monkeypatch.setattr("gradio.networking.GRADIO_SHARE_SERVER_ADDRESS", server)
    monkeypatch.setattr("gradio.tunneling.BINARY_FOLDER", tmp_path)
    monkeypatch.setattr("gradio.tunneling.BINARY_PATH", str(tmp_path / "frpc"))
    hosts = Hosts(set())
    with pytest.raises(StudioError, match=r"--host 0\.0\.0\.0"):
        Sharing().address(7861, hosts)
    assert hosts.names == set()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--auth", "anna:secret"], "--share or --host"),
        (["--share", "--host", "0.0.0.0"], "not allowed with"),
        (["--host", "0.0.0.0", "--auth", "anna"], "anna:secret"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ui", *words]) == 2
    assert said in capsys.readouterr().err
