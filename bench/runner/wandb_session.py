"""Weights & Biases as the runner and the report use it: mode, folder, service and the settings of quiet runs."""

import os
from contextlib import suppress
from typing import Any

INIT_SECONDS = 5  # wait for the server, once per command; closing a failed run may take two more seconds
LONGEST_TAG = 64  # W&B rejects longer tags
ENVIRONMENT = {"disabled": "off", "offline": "offline", "dryrun": "offline"}  # WANDB_MODE to track.mode


def mode_of(asked: str) -> str:
    """Resolve the setting `track.mode`.

    Args:
        asked: auto, online, offline or off.

    Returns:
        The setting, or if it is auto, the mode that WANDB_MODE requests (auto if none).
    """
    return ENVIRONMENT.get(os.environ.get("WANDB_MODE", ""), "auto") if asked == "auto" else asked


def folder_of_runs() -> str:
    """Return the folder in which W&B keeps its runs."""
    return os.environ.get("WANDB_DIR", "outputs")


def begin(asked: str, **more: Any) -> tuple[str, str]:
    """Start W&B's service.

    Args:
        asked: auto, online or offline.
        more: Settings of the service, used if it is not running yet.

    Returns:
        The resulting mode, online or offline; and the reason if it differs from the requested one, else "".
    """
    import wandb

    os.environ["WANDB_ERROR_REPORTING"] = "false"  # it would delay the exit by 20 s if no server answers
    wandb.setup(wandb.Settings(mode="offline" if asked == "offline" else "online", silent=True, **more))
    if asked == "offline":
        return "offline", ""
    try:
        has_key = wandb.login(prompt=False, verify=False)
    except wandb.errors.AuthenticationError as error:
        return "offline", f"{error_line(error)}; "
    return ("online", "") if has_key else ("offline", "no API key is configured ('wandb login' or WANDB_API_KEY); ")


def settings(finish_seconds: float, **more: Any) -> Any:
    """Return the settings of a quiet run that records only what it is given.

    Args:
        finish_seconds: How long the end of the run may wait for the server.
        more: Further settings of the run.
    """
    import wandb

    return wandb.Settings(
        init_timeout=INIT_SECONDS,
        finish_timeout=finish_seconds,
        finish_timeout_raises=True,
        silent=True,
        console="off",
        disable_git=True,
        x_disable_stats=True,
        x_disable_meta=True,
        x_save_requirements=False,
        **more,
    )


def stop_service() -> None:
    """Stop W&B's service, ignoring its errors."""
    with suppress(Exception, SystemExit):
        import wandb

        wandb.teardown(exit_code=1)


def error_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type if there is none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
