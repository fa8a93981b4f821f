# SPDX-License-Identifier: Apache-2.0
"""Push a result to the Hub: a step of its own that can be repeated, with a token that lives for the call.

The token is handed to the client and to nothing else: not to the record, the log, the broker or the browser.
Large files go up one by one, then one commit makes all of them appear; what the Hub has already is skipped,
so that pressing the button again after an interruption continues.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from core.errors import WorkbenchError

_MESSAGE = "Upload an MLA conversion"
_STATUS_HINTS = {
    401: ("the Hub does not accept this token", "make one with write access under Settings, Access Tokens"),
    403: (
        "this token may not write there",
        "use your own name or an organisation's, and a token that may write",
    ),
    404: ("the Hub knows no such place", "use your own name or an organisation's before the slash"),
}


class PushError(WorkbenchError):
    """The Hub could not be reached, or refused."""

    reason = "push failed"


Report = Callable[[str, int], None]


def push(
    files: Sequence[tuple[str, Path]], repo: str, token: str | None, *, private: bool, report: Report
) -> str:
    """Upload `files` (name in the repository, path) to `repo`; returns its address.

    `report` hears each file and the bytes that are up before it. Without a token the client looks for the
    one of the environment or of its own login. Raises PushError.
    """
    try:
        api = HfApi(token=token)
        address = api.create_repo(repo, private=private, exist_ok=True, repo_type="model")
        operations = [CommitOperationAdd(name, str(path)) for name, path in files]
        done = 0
        for (name, path), operation in zip(files, operations, strict=True):
            report(name, done)
            api.preupload_lfs_files(address.repo_id, [operation], num_threads=1)
            done += path.stat().st_size
        report("", done)
        api.create_commit(address.repo_id, operations, commit_message=_MESSAGE)
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, httpx.HTTPError, OSError) as error:
        raise _translated(error, token) from None
    except (RuntimeError, ValueError) as error:
        # the client wraps what went wrong while a file was sent, and what the Hub said of a wrong card
        raise _translated(error.__cause__ or error, token) from None
    return str(address)


def _translated(error: BaseException, token: str | None) -> PushError:
    """In words, and without the token whatever the client quotes. The cause is dropped: it may hold it."""
    if isinstance(error, HfHubHTTPError) and error.response.status_code in _STATUS_HINTS:
        message, hint = _STATUS_HINTS[error.response.status_code]
        return PushError(message, hint=hint, field="token")
    if isinstance(error, HFValidationError):
        return PushError("that is not the name of a repository", hint="write owner/name", field="repo")
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    words = first.replace(token, "***") if token else first
    if isinstance(error, httpx.HTTPError | OfflineModeIsEnabled | OSError):
        words = f"the Hub cannot be reached: {words}"
    return PushError(words, hint="push again: what is up already is not sent twice")
