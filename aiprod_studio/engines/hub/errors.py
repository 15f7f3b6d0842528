"""What can go wrong with a download, by name; all but two are `ModelUnavailable`.

ModelUnavailable
├── NoNetwork        the Hub cannot be reached, or offline mode is on
├── HubBusy          the Hub answers, and refuses for now
├── GatedRepo        the repository's owner asks for terms to be accepted
├── BadToken         the token is refused where one is needed
├── RepoGone         the repository, revision or file is not there any more
├── CorruptFile      a file arrived wrong twice
└── NotDownloaded    the files are not on this disk
DoesNotFit
└── DiskFull         the disk cannot hold the files
BadRequest
└── TermsNotAccepted the licence must be accepted first
"""

from __future__ import annotations

from huggingface_hub import errors as hub_errors

from aiprod_studio.errors import BadRequest, DoesNotFit, ModelUnavailable, StudioError


class NoNetwork(ModelUnavailable):
    """The Hub cannot be reached, or offline mode is on."""


class HubBusy(ModelUnavailable):
    """The Hub answers, and refuses for now."""


class GatedRepo(ModelUnavailable):
    """The repository's owner asks for terms to be accepted on its page."""


class BadToken(ModelUnavailable):
    """The token is refused where one is needed."""


class RepoGone(ModelUnavailable):
    """The repository, revision or file is not there any more."""


class CorruptFile(ModelUnavailable):
    """A file arrived wrong twice."""


class NotDownloaded(ModelUnavailable):
    """The files are not on this disk."""


class DiskFull(DoesNotFit):
    """The disk cannot hold the files."""


class TermsNotAccepted(BadRequest):
    """The licence must be accepted before the download."""


def explain(error: Exception, endpoint: str, repo: str, token: str | None) -> StudioError:
    """Return the `StudioError` for what asking the Hub at `endpoint` about `repo` raised."""
    page = f"{endpoint}/{repo}"
    if not isinstance(error, hub_errors.HfHubHTTPError):
        return NoNetwork(
            f"{endpoint} cannot be reached ({type(error).__name__}). Check the network and start "
            "the download again; it goes on where it stopped."
        )
    status = error.response.status_code
    if isinstance(error, hub_errors.GatedRepoError):
        return GatedRepo(f"{repo} asks for its terms to be accepted. {unlock(page, token)}")
    if isinstance(error, hub_errors.RevisionNotFoundError | hub_errors.RemoteEntryNotFoundError):
        return RepoGone(
            f"{page} does not hold this version of the files any more. Use --update to take "
            "the newest one."
        )
    if status == 401 and token:
        return BadToken(
            f"The Hub refuses the token for {repo}. Get a new one at {endpoint}/settings/tokens "
            "and set HF_TOKEN."
        )
    if status in (401, 404, 410) or isinstance(error, hub_errors.DisabledRepoError):
        return RepoGone(
            f"{page} is gone or private. Choose another engine, or set HF_TOKEN to a token that "
            "may read it."
        )
    if status == 403:
        return BadToken(
            f"The Hub forbids access to {repo}. Give the token the right to read public gated "
            f"repositories at {endpoint}/settings/tokens."
        )
    return HubBusy(f"{endpoint} answers with error {status}. Start the download again later.")


def unlock(page: str, token: str | None) -> str:
    """Return what to do about a gated repository's `page`, with a token or without one."""
    if token:
        return f"Accept them at {page} with the account of your token, then try again."
    return f"Accept them at {page}, and set HF_TOKEN to a token of that account."
