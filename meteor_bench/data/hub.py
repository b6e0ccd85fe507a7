"""The hub's data sets, through huggingface_hub's client. Nothing else of the package speaks to it for data.

Its `hf_hub_download` begins a file anew when it was interrupted; its `http_get`, which that uses, goes on where a file
ends, and is what is called here. A token is sent only for what is not given without one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

from huggingface_hub import HfApi, errors, get_token, hf_hub_url
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    build_hf_headers,
    disable_progress_bars,
    enable_progress_bars,
)

from meteor_bench.core.errors import DataError
from meteor_bench.data.manifest import File, inside, wrong
from meteor_bench.utils.plain_text import one_line

__all__ = ["Gone", "Hub", "Listing", "Unreachable"]

_SECONDS = 60.0  # to wait for the first answer; none is huggingface_hub's default
Answer = TypeVar("Answer")


class Gone(DataError):
    """The hub has a data set, but not the branch, or no longer the commit, that was asked for."""


class Unreachable(DataError):
    """The hub did not answer, or stopped to."""


class Listing(NamedTuple):
    """A data set as the hub has it at a commit."""

    commit: str
    files: dict[str, File]


class _Watched:
    """A file that says how many bytes it is given."""

    def __init__(self, stream: BinaryIO, on_bytes: Callable[[int], None]) -> None:
        self._stream, self._on_bytes = stream, on_bytes
        self.tell, self.seek, self.truncate = stream.tell, stream.seek, stream.truncate

    def write(self, chunk: bytes) -> int:
        self._on_bytes(len(chunk))
        return self._stream.write(chunk)


class Hub:
    """A connection.

    Args:
        endpoint: its address; that of huggingface_hub (`HF_ENDPOINT`) by default.
    """

    def __init__(self, endpoint: str | None = None) -> None:
        self._api = HfApi(endpoint=endpoint)
        self._tokens: dict[str, str | bool] = {}

    def listing(self, repository: str, revision: str | None = None) -> Listing:
        """All files of a data set.

        Args:
            revision: a branch or a commit; by default the main branch as it is.

        Raises:
            Gone: the data set has no such revision.
            DataError: there is no such data set, it is not given to us, or the hub cannot be reached.
        """

        def ask(token: str | bool) -> Listing:
            found = self._api.dataset_info(repository, revision=revision, token=token, timeout=_SECONDS).sha
            assert found is not None  # only answers to narrower questions lack it
            tree = self._api.list_repo_tree(
                repository, recursive=True, revision=found, repo_type="dataset", token=token
            )
            files = [_file(f) for f in tree if isinstance(f, RepoFile)]
            return Listing(found, {str(inside(file.path, repository)): file for file in files})

        return self._asked(repository, ask)

    def text(self, repository: str, commit: str, file: File, scratch: Path) -> str:
        """A small text file, fetched anew.

        Raises:
            DataError: as for `download`, or it is another than the listing says.
        """
        scratch.unlink(missing_ok=True)
        self.download(repository, commit, file, scratch, lambda count: None)
        try:
            if problem := wrong(scratch, file):
                raise DataError(f"{repository}: {file.path} came with {problem}")
            return scratch.read_text(encoding="utf-8")
        finally:
            scratch.unlink()

    def download(self, repository: str, commit: str, file: File, path: Path, on_bytes: Callable[[int], None]) -> None:
        """Fetch a file, or the rest of it where its beginning is there.

        Args:
            on_bytes: called with the number of bytes of each piece.

        Raises:
            DataError: as for `listing`, or the connection broke and did not come back.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        url = hf_hub_url(repository, file.path, repo_type="dataset", revision=commit, endpoint=self._api.endpoint)

        def ask(token: str | bool) -> None:
            headers = {**build_hf_headers(token=token), "Accept-Encoding": "identity"}
            with path.open("r+b" if path.exists() else "w+b") as stream:
                there: Any = _Watched(stream, on_bytes)
                have = stream.seek(0, 2)
                http_get(url, there, resume_size=have, headers=headers, expected_size=file.size)

        shown = not are_progress_bars_disabled()
        disable_progress_bars()
        try:
            self._asked(repository, ask)
        finally:
            if shown:
                enable_progress_bars()

    def _asked(self, repository: str, ask: Callable[[str | bool], Answer]) -> Answer:
        """Without a token, and with one where that is refused."""
        token = self._tokens.get(repository, False)
        try:
            try:
                return ask(token)
            except errors.RepositoryNotFoundError:  # gated ones included
                own = get_token()
                if token is not False or own is None:
                    raise
                answer = ask(own)
                self._tokens[repository] = own
                return answer
        except errors.GatedRepoError:
            page = f"{self._api.endpoint}/datasets/{repository}"
            raise DataError(
                f"{repository} is gated: accept its licence at {page} and set HF_TOKEN to a token of that account"
            ) from None
        except errors.RevisionNotFoundError:
            raise Gone(f"{repository}: the hub has no such revision of it") from None
        except errors.RepositoryNotFoundError:
            raise DataError(
                f"{repository}: the hub shows no such data set to us; if it is private, set HF_TOKEN"
            ) from None
        except errors.HfHubHTTPError as error:
            raise DataError(f"{repository}: {one_line(error)}") from error
        except errors.HTTPError as error:
            raise Unreachable(
                f"{repository}: no connection to {self._api.endpoint} ({one_line(error)}); the same command goes on "
                "from here"
            ) from error
        except OSError as error:
            raise DataError(f"{repository}: {one_line(error)}; the same command goes on from here") from error


def _file(found: RepoFile) -> File:
    if found.lfs is None:
        return File(found.path, found.size, git=found.blob_id)
    return File(found.path, found.lfs.size, sha256=found.lfs.sha256)
