"""One headless Chromium for all tests of the page, the pages they look at, and what a page asked for and complained about."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest

from gapbench.report import write_report
from tests.analysis import synthetic

REFERENCE = Path(__file__).parents[3] / "results" / "reference"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def lacking(what: str) -> NoReturn:
    """Where continuous integration runs, a page that nobody looked at is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}; .ci/run installs it")
    pytest.skip(f"{what}: report.html is not looked at")


@dataclass
class Opened:
    """A page, with everything that it asked the network for and every complaint on its console."""

    page: Any
    address: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


Open = Callable[..., Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A running Chromium of the system; nothing is downloaded."""
    path = os.environ.get("GAPBENCH_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        lacking("no Chromium on this machine")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        lacking("playwright is not installed")
    with sync_playwright() as playwright:
        # Its own sandbox needs rights that containers seldom have; the only page it sees is ours.
        launched = playwright.chromium.launch(executable_path=path, chromium_sandbox=False)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports by name: two reference results, a grid, and a suite where much went wrong."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ("quickstart", "mnist-f1"):
        shutil.copytree(REFERENCE / name, folder / name)
    synthetic.write(folder / "grid", *synthetic.grid_suite(2, (128, 512, 2048)))
    wrong = {"diverged": [("LB", 1), ("LB", 2)], "missing": [("LB+LR", 0)]}
    runs, curves = synthetic.digits_suite(4, only=["SB", "LB", "LB+LR", "SB+4x"], **wrong)
    runs.loc[runs["seed"] == 3, "torch_version"] = "2.12.0"
    runs.loc[runs["run_id"] == "lb-s1", "reason"] = "loss <b>is</b> not finite & nothing else"
    synthetic.write(folder / "troubled", runs, curves)
    return {name: write_report(folder / name).page for name in ("quickstart", "mnist-f1", "grid", "troubled")}


@pytest.fixture
def opened(browser: Any, pages: dict[str, Path]) -> Open:
    """Opens a page by name, as a context manager; keywords are those of a browser context, such as `color_scheme`."""

    @contextmanager
    def open_page(name: str, **options: Any) -> Iterator[Opened]:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        page = context.new_page()
        found = Opened(page, pages[name].as_uri())
        page.on("request", lambda request: found.requests.append(request.url))
        page.on("console", lambda message: found.complaints.append(message.text))
        page.on("pageerror", lambda error: found.complaints.append(str(error)))
        page.goto(found.address)
        try:
            yield found
        finally:
            context.close()

    return open_page
