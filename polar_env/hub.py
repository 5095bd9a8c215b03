"""Folders to and from the Hugging Face hub, with errors that say how to mend them. Nothing that is pulled is executed.

A pull is atomic: files come to a temporary folder beside their place, are checked there, and then moved.
"""

from __future__ import annotations

import glob
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from polar_env.assets import ASSETS
from polar_env.errors import ConfigError, HubError, PolarError
from polar_env.tables import require_new_folder, writing_folder

__all__ = ["Kind", "Pulled", "base_model", "known_licence", "pull_folder", "push_folder"]

Kind = Literal["model", "dataset"]
PAGE = "README.md"
DATA = (".json", ".safetensors", ".parquet", ".yaml", ".md")
"""Endings of the files that are pulled: data that is parsed, never unpickled or run."""
LICENCES = ("apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "gemma")
"""Licences that go by the same name on the hub."""
_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_LOG_IN = "run `hf auth login`, or set HF_TOKEN"


@dataclass(frozen=True)
class Pulled:
    """What a pull brought.

    Attributes:
        folder: where it lies.
        commit: the revision that it is of.
        left_out: files of the repository that are not data and stayed there.
    """

    folder: Path
    commit: str
    left_out: tuple[str, ...]


def known_licence(text: str) -> tuple[str | None, str | None]:
    """A licence as a page's head names it: its name on the hub, or ``other`` and its own words.

    Args:
        text: in words; what stands behind the last semicolon counts. Empty for none.
    """
    name = text.rpartition(";")[2].strip().lower()
    if name in LICENCES:
        return name, None
    return ("other", text) if text else (None, None)


def base_model(model: str) -> str | None:
    """The repository on the hub of an LLM, by the name that commands take; None for a local folder."""
    if model in ASSETS:
        return ASSETS[model].hub_id
    return model if _REPO.fullmatch(model) and not Path(model).exists() else None


def push_folder(
    files: Mapping[str, Path], page: str, repo: str, kind: Kind, private: bool = False, revision: str = ""
) -> str:
    """Push files and their page to a repository, which is made where there is none.

    Args:
        files: what goes up, by its name there.
        page: the text of README.md.
        repo: ``OWNER/REPO``.
        kind: what the repository holds.
        private: a new repository is seen by its owner alone; one that is there stays as it is.
        revision: the branch, made where there is none; empty for the main one.

    Returns:
        The address of the commit.

    Raises:
        ConfigError: for a name that is no ``OWNER/REPO``, or a file that `pull_folder` would leave out.
        HubError: without a token, a right to write, or a network; says which.
    """
    from huggingface_hub import HfApi, get_token

    _require_repo(repo)
    for file in files:
        if not _is_data(file):
            raise ConfigError(f"'{file}' would not be pulled again; name files {', '.join('*' + end for end in DATA)}.")
    if get_token() is None:
        raise HubError(f"there is no token to push to {repo} with; {_LOG_IN} to one that may write.")
    with tempfile.TemporaryDirectory() as name, _told(repo, revision):
        staged, api = Path(name), HfApi()
        for file, path in files.items():
            shutil.copyfile(path, staged / file)
        (staged / PAGE).write_text(page, encoding="utf-8")
        api.create_repo(repo, repo_type=kind, private=private or None, exist_ok=True)
        if revision:
            api.create_branch(repo, branch=revision, repo_type=kind, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo, folder_path=staged, repo_type=kind, revision=revision or None, commit_message="polar push"
        )
        return str(done.commit_url)


def pull_folder(
    repo: str, kind: Kind, folder: Path, card: str, check: Callable[[Path], object], revision: str = ""
) -> Pulled:
    """Pull the data of a repository into a new folder, if it is whole.

    Args:
        repo: ``OWNER/REPO``.
        kind: what the repository holds.
        folder: where to; it must be new, or empty.
        card: the file that a repository of this kind has.
        check: raises where a folder is not whole.
        revision: a branch, tag or commit; empty for the main one.

    Raises:
        ConfigError: for a name that is no ``OWNER/REPO``, or a folder that holds something.
        HubError: if there is no such repository, it holds no card or is not whole, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    _require_repo(repo)
    require_new_folder(folder)
    api = HfApi()
    with _told(repo, revision):
        commit = api.repo_info(repo, repo_type=kind, revision=revision or None).sha or ""
        names = set(api.list_repo_files(repo, repo_type=kind, revision=commit)) - {".gitattributes"}
    kept = sorted(filter(_is_data, names))
    if card not in kept:
        has = ", ".join(sorted(names)[:10]) or "nothing"
        raise HubError(f"{repo} is not what was asked for ({card} is missing; it has {has}); check the name.")
    patterns = [glob.escape(name) for name in kept]
    with writing_folder(folder) as fresh:
        with _told(repo, revision):
            api.snapshot_download(repo, repo_type=kind, revision=commit, local_dir=fresh, allow_patterns=patterns)
        shutil.rmtree(fresh / ".cache", ignore_errors=True)  # what the hub's client keeps for itself
        try:
            check(fresh)
        except PolarError as error:
            raise HubError(f"nothing was kept of {repo}: {error}".replace(str(fresh), repo)) from error
    return Pulled(folder, commit, tuple(sorted(names - set(kept))))


def _is_data(name: str) -> bool:
    """Whether a file is pulled: data in the top folder."""
    return "/" not in name and name.endswith(DATA)


def _require_repo(repo: str) -> None:
    if not _REPO.fullmatch(repo):
        raise ConfigError(f"'{repo}' names no repository of the hub; write OWNER/REPO, e.g. anna/skills.")


@contextmanager
def _told(repo: str, revision: str) -> Iterator[None]:
    """Errors of the hub's client in one sentence, with the mend.

    Raises:
        HubError: instead of them.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    # The base of network errors, in whichever HTTP library this version of the client uses.
    from huggingface_hub.errors import HTTPError as NetworkError  # type: ignore[attr-defined]

    try:
        yield
    except OfflineModeIsEnabled as error:
        raise HubError(
            "the hub is switched off here by HF_HUB_OFFLINE; unset it, and run the command again."
        ) from error
    except HFValidationError as error:
        raise HubError(f"the hub takes no repository named '{repo}' ({error}); write OWNER/REPO.") from error
    except HfHubHTTPError as error:
        raise HubError(_refusal(error, repo, revision)) from error
    except (NetworkError, EntryNotFoundError, ConnectionError) as error:
        raise HubError(
            f"the hub at {constants.ENDPOINT} cannot be reached, or broke off ({type(error).__name__}); check the "
            "network and HF_ENDPOINT, and run the command again."
        ) from error


def _refusal(error: Exception, repo: str, revision: str) -> str:
    """What the hub's answer means."""
    from huggingface_hub import errors, get_token

    if isinstance(error, errors.GatedRepoError):
        return f"{repo} is gated; ask its owner for access on its page, then run the command again."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo} has no revision '{revision}'; leave out --revision for the main branch."
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.RepositoryNotFoundError):
        seen = "your token may not see it" if get_token() else f"private: then {_LOG_IN}"
        return f"there is no repository {repo}, or {seen}; check the name."
    if status == 401:
        return f"the hub does not accept your token for {repo}; {_LOG_IN} to one that is valid."
    if status == 403:
        return f"your token has no right to write to {repo}; take one with that right, or an OWNER that is you."
    return f"the hub refused {repo}: {str(error).splitlines()[0]} Try again later, or mend what it names."
