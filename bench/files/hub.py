"""One clear line for everything that can go wrong between here and the hub, and the local cache wherever it will do."""

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
    """Call one of the hub client's download functions; the local cache will do where the hub says no, or nothing.

    kind: model or dataset. needs: files of which the repository must have one. remedy: what works without the hub.
    ValueError: neither the hub nor the cache has it, with what to do.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
    from huggingface_hub.utils import httpx, logging

    logging.set_verbosity_error()  # what is wrong is told once, in the ValueError
    what = f"{'model' if kind == 'model' else 'data set'} {repo!r}"
    with hub_errors(what, revision, remedy=remedy):
        try:
            # Without a network the download functions would ask six times, over half a minute. This asks once.
            info = HfApi().repo_info(repo, repo_type=kind, revision=revision, timeout=10)
        except (HfHubHTTPError, httpx.TransportError, OfflineModeIsEnabled) as refusal:
            if isinstance(refusal, httpx.TransportError):
                os.environ["HF_HUB_OFFLINE"] = "1"  # workers are started later: they need not find out file by file
            try:
                return Path(download(local_files_only=True))
            except LocalEntryNotFoundError:
                raise refusal from None
        if needs and not {file.rfilename for file in info.siblings or ()}.intersection(needs):
            raise ValueError(f"{what} has no {' or '.join(needs)} on the hub; {remedy}")
        return Path(download())


@contextmanager
def hub_errors(what: str, revision: str, *, remedy: str) -> Iterator[None]:
    """Turn the hub client's exceptions into a ValueError that says what to do.

    `what` names the thing that was asked for, `remedy` what works without the hub.
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
