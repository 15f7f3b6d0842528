"""The guard: whose requests are answered."""

from __future__ import annotations

import pytest

from aiprod_studio.ui.guard import is_own


@pytest.mark.parametrize(
    ("host", "origin", "own"),
    [
        ("127.0.0.1:7860", None, True),
        ("localhost:7860", "http://localhost:7860", True),
        ("[::1]:7860", "http://[::1]:7860", True),
        ("127.0.0.1:7860", "http://127.0.0.1:9999", False),
        ("127.0.0.1:7860", "https://evil.example", False),
        ("127.0.0.1:7860", "null", False),
        ("evil.example:7860", None, False),
        ("127.0.0.1.evil.example", None, False),
        ("", None, False),
        ("[broken", None, False),
    ],
)
def test_only_the_own_page_is_answered(host: str, origin: str | None, own: bool) -> None:
    headers = [(b"host", host.encode())]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    assert is_own(headers) is own
