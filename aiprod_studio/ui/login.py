"""The login: the one page that a visitor sees before the studio, and the way out of it."""

from __future__ import annotations

import secrets
from html import escape

from starlette.responses import HTMLResponse

from aiprod_studio.ui.limits import Limits
from aiprod_studio.ui.sheets import fill_page
from aiprod_studio.ui.texts import Texts
from aiprod_studio.ui.tongues import draw_choice

NO_USER = '<input name="user" autocomplete="username" value="visitor" hidden>'
"""What password managers need where no name is asked for."""


def draw_login(say: Texts, asks_user: bool, said: str = "", status: int = 401) -> HTMLResponse:
    """Return the login page, with the sentence `said` if there is one; it loads nothing."""
    nonce = secrets.token_urlsafe(16)
    user = (
        f'<label>{escape(say("share.user"))}<input name="user" autocomplete="username" required>'
        "</label>"
    )
    parts = {
        "language": say.language,
        "direction": say.direction,
        "nonce": nonce,
        "hint": escape(say("share.hint")),
        "said": f'<p class="wrong" role="alert">{escape(said)}</p>' if said else "",
        "user": user if asks_user else NO_USER,
        "password": escape(say("share.secret")),
        "enter": escape(say("share.enter")),
        "choice": draw_choice(say),
    }
    page = fill_page("login.html", parts)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
        "img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        # With "no-referrer" browsers send the form with no origin either.
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
    return HTMLResponse(page, status, headers)


def draw_leave(limits: Limits, say: Texts) -> str:
    """Return the line under the head of the visitors' page: limits, language, the way out."""
    told = say("share.limits", side=limits.side, seconds=f"{limits.seconds:g}", jobs=limits.jobs)
    return (
        f'<form method="post" action="logout" class="as-actions as-hint"><span>{escape(told)}'
        f"</span> {draw_choice(say)}"
        f'<button class="as-button as-quiet">{escape(say("share.leave"))}</button></form>'
    )
