"""Downloads from the hub: one clear line for every failure, and the local cache wherever it is sufficient."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def fetch(
    download: Callable[..., str],
    repo: str,
    revision: str,
    *,
    kind: str = "model",
    needs: tuple[str, ...] = (),
    remedy: str,
) -> Path:
    """Call one of the hub client's download functions, and fall back to the local cache if the hub fails.

    Args:
        download: Downloads the files and returns their path. It must accept `local_files_only=`.
        repo: The repository.
        revision: The revision of the repository.
        kind: "model" or "dataset".
        needs: Alternative files. The repository must have at least one of them.
        remedy: What to do without the hub, for the message.

    Returns:
        The path of the download.

    Raises:
        ValueError: Neither the hub nor the cache has the files. The message says what to do.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
    from huggingface_hub.utils import httpx, logging

    logging.set_verbosity_error()  # the ValueError already reports the problem
    what = f"{'model' if kind == 'model' else 'data set'} {repo!r}"
    with hub_errors(what, revision, remedy=remedy):
        try:
            # Without a network, the download functions would retry six times, for over half a minute. This asks once.
            info = HfApi().repo_info(repo, repo_type=kind, revision=revision, timeout=10)
        except (HfHubHTTPError, httpx.TransportError, OfflineModeIsEnabled) as error:
            if isinstance(error, httpx.TransportError):
                os.environ["HF_HUB_OFFLINE"] = "1"  # workers start later and need not time out on every file
            try:
                return Path(download(local_files_only=True))
            except LocalEntryNotFoundError:
                raise error from None
        if needs and not {file.rfilename for file in info.siblings or ()}.intersection(needs):
            raise ValueError(f"{what} has no {' or '.join(needs)} on the hub; {remedy}")
        return Path(download())


@contextmanager
def hub_errors(what: str, revision: str, *, remedy: str) -> Iterator[None]:
    """Turn the hub client's exceptions into a ValueError that says what to do.

    Args:
        what: The name of what was requested, such as "model 'bert-base'".
        revision: The requested revision.
        remedy: What to do without the hub.

    Raises:
        ValueError: The block raised an exception of the hub client or of the network.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils import httpx

    try:
        yield
    except GatedRepoError as error:
        raise ValueError(
            f"{what} is gated: ask for access on its hub page and log in with 'hf auth login' (the token is on "
            f"huggingface.co/settings/tokens), or {remedy}"
        ) from error
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"{what} does not exist on the hub, or is private: check the name, log in with 'hf auth login', or {remedy}"
        ) from error
    except RevisionNotFoundError as error:
        raise ValueError(f"{what} has no revision {revision!r} on the hub: check it, or {remedy}") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, httpx.TransportError) as error:
        raise ValueError(f"{what} cannot be reached: no network, and it is not in the local cache; {remedy}") from error
    except (HfHubHTTPError, HFValidationError) as error:
        raise ValueError(f"{what} cannot be fetched ({' '.join(str(error).split())}); {remedy}") from error
