"""Studies committed to the repository: records, with the command and the machine that made them."""

from pathlib import Path

STUDIES = Path(__file__).resolve().parents[2] / "results" / "studies"  # exists in a checkout, not in a wheel


def study_names() -> list[str]:
    """Return the names of the committed studies, sorted; empty in an installed wheel."""
    return sorted(path.name for path in STUDIES.iterdir() if path.is_dir()) if STUDIES.is_dir() else []


def study_folder(name: str) -> Path:
    """Return the folder of a study's records.

    Args:
        name: Name of the study.

    Returns:
        The folder.

    Raises:
        ValueError: The study does not exist, or no study does, as in an installed wheel.
    """
    known = study_names()
    if not known:
        raise ValueError(
            f"study={name}: studies are part of the repository and not of the installed package; clone the repository, "
            "or name a folder of records with results_dir="
        )
    if name not in known:
        raise ValueError(f"study={name} is unknown; choose from {', '.join(known)}")
    return STUDIES / name
