"""Draws the documentation's pictures from committed studies: an ablation table, the Pareto figure, the dashboard.

make pictures        needs Chromium; writes into the studies' folders
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from bench.records import record as records
from bench.report.dashboard.dashboard import dashboard
from bench.report.figures.figures import FIGURES
from bench.report.figures.layout import write_figure
from bench.report.figures.styles import FIRST
from bench.report.record_frame import Study
from bench.report.studies import study_folder
from bench.report.tables.formats import FORMATS
from bench.report.tables.scores import TABLES

ABLATION, METHODS = study_folder("lora-table6-sst2"), study_folder("methods-reviews")
SCALE = 2  # pixels of the picture for one of the page
STYLE = """
body { font: 15px system-ui, sans-serif; margin: 24px; color: #111; background: #fff; width: 760px }
table { border-collapse: collapse; border-top: 2px solid; border-bottom: 2px solid; width: 100% }
caption { text-align: left; font-weight: 600; padding-bottom: 8px } th { border-bottom: 1px solid }
th, td { padding: 4px 10px } p { font-size: 12px; color: #444; margin: 6px 0 }
"""


def shot(browser: Any, page: str, path: Path, width: int, height: int, *, whole: bool) -> None:
    """Draw a page from a file, as a reader would open it. whole: whether to draw all of its content."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "page.html"
        place.write_text(page, encoding="utf-8")
        tab = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=SCALE)
        tab.goto(place.as_uri())
        tab.screenshot(path=path, full_page=whole)
        tab.close()


def main() -> int:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("pictures need Chromium: apt-get install chromium", file=sys.stderr)
        return 2
    ablation, methods = (Study.of(records.read_all(folder, print)) for folder in (ABLATION, METHODS))
    table = TABLES["rank_by_target"](ablation, "report_score")
    figure = FIGURES["score_by_parameters"](methods.only(lambda cells: cells["method"].isin(FIRST)))
    assert table is not None
    assert figure is not None
    for folder in (ABLATION, METHODS):
        (folder / "pictures").mkdir(exist_ok=True)
    write_figure(figure, METHODS / "pictures" / "pareto", "png")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = f"<!doctype html><meta charset=utf-8><style>{STYLE}</style>{FORMATS['html'](table)}"
        shot(browser, page, ABLATION / "pictures" / "ablation.png", 808, 200, whole=True)
        shot(browser, dashboard(methods), METHODS / "pictures" / "dashboard.png", 1280, 860, whole=False)
        browser.close()
    for path in sorted([*ABLATION.glob("pictures/*.png"), *METHODS.glob("pictures/*.png")]):
        print(f"rendered: {path.relative_to(METHODS.parents[2])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
