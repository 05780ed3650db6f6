"""The studies that are committed with the project: records with the command and the machine that made them."""

from pathlib import Path

STUDIES = Path(__file__).resolve().parents[2] / "results" / "studies"  # in a checkout; a wheel has none


def study_names() -> list[str]:
    """Names of the studies that are there; none in an installed wheel."""
    return sorted(path.name for path in STUDIES.iterdir() if path.is_dir()) if STUDIES.is_dir() else []


def study_folder(name: str) -> Path:
    """Folder of a study's records. ValueError: there is no such study, or no study at all."""
    known = study_names()
    if not known:
        raise ValueError(
            f"study={name}: studies are part of the repository and not of the installed package; clone the repository, "
            "or name a folder of records with results_dir="
        )
    if name not in known:
        raise ValueError(f"study={name} is unknown; choose from {', '.join(known)}")
    return STUDIES / name
