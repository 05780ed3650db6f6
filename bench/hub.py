"""One clear line for everything that can go wrong between here and the hub."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hub_errors(what: str, revision: str, *, remedy: str) -> Iterator[None]:
    """Turn the hub client's exceptions into a ValueError that says what to do.

    `what` names the thing that was asked for, `remedy` what works without the hub.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise ValueError(
            f"{what} is gated: ask for access on its hub page and log in with 'hf auth login', or {remedy}"
        ) from error
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"{what} does not exist on the hub, or is private: check the name, log in with 'hf auth login', or {remedy}"
        ) from error
    except RevisionNotFoundError as error:
        raise ValueError(f"{what} has no revision {revision!r} on the hub: check it, or {remedy}") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError, TimeoutError) as error:
        raise ValueError(f"{what} cannot be reached: no network, and it is not in the local cache; {remedy}") from error
    except (HfHubHTTPError, FileNotFoundError) as error:
        raise ValueError(f"{what} cannot be fetched ({str(error).splitlines()[0]}); {remedy}") from error
