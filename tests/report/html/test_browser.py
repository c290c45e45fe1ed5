"""The page in a real browser: it asks for nothing, complains about nothing, and everything on it works."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

ALL = ("quickstart", "mnist-f1", "grid", "troubled")

VISIBLE = "elements => elements.filter(one => one.getClientRects().length > 0).length"


@pytest.mark.parametrize("name", ALL)
def test_a_page_asks_for_nothing_but_itself_and_has_no_complaint(opened: Any, name: str) -> None:
    with opened(name) as found:
        found.page.mouse.wheel(0, 20000)
        found.page.wait_for_timeout(100)
        assert found.requests == [found.address]
        assert found.complaints == []
        assert found.page.get_by_role("heading", level=1).inner_text().startswith("How much test accuracy")
        assert found.page.locator("figure svg").count() == 5
        assert found.page.locator(".arms .strip circle").count() > 5


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("width", [380, 768, 1280])
def test_nothing_is_wider_than_the_window(opened: Any, name: str, width: int) -> None:
    with opened(name, viewport={"width": width, "height": 800}) as found:
        assert found.page.evaluate("document.documentElement.scrollWidth") <= width


def test_at_a_desk_the_whole_arms_table_is_in_sight(opened: Any) -> None:
    with opened("quickstart") as found:
        cut = "elements => elements.filter(one => one.parentElement.scrollWidth > one.parentElement.clientWidth).length"
        assert found.page.eval_on_selector_all("table.arms", cut) == 0


def test_toggling_an_arm_hides_and_shows_its_series_in_every_figure(opened: Any) -> None:
    with opened("quickstart") as found:
        box = found.page.get_by_role("checkbox", name="LB+LR+GBN", exact=True)
        own = f"figure .{box.get_attribute('id').removeprefix('show-')}"
        for figure in found.page.locator("figure").all():
            assert figure.locator(own.removeprefix("figure ")).count() > 1
        everything = found.page.eval_on_selector_all("figure svg *", VISIBLE)
        shown = found.page.eval_on_selector_all(own, VISIBLE)
        assert shown > 5
        box.uncheck()
        assert found.page.eval_on_selector_all(own, VISIBLE) == 0
        assert 0 < found.page.eval_on_selector_all("figure svg *", VISIBLE) < everything
        box.check()
        assert found.page.eval_on_selector_all(own, VISIBLE) == shown


def test_toggling_a_batch_size_hides_all_its_cells_and_no_others(opened: Any) -> None:
    with opened("grid") as found:
        points = found.page.locator("#figure-weight_distance .points circle")

        def shown() -> set[str]:
            visible = "elements => elements.filter(one => one.getClientRects().length > 0).length"
            assert points.evaluate_all(visible) > 0
            texts = "frame => [...frame.querySelectorAll('.legend, text')].map(one => one.getClientRects().length ? one.textContent : '')"
            return {text for text in found.page.eval_on_selector("#figure-weight_distance", texts) if text.startswith("batch size")}

        assert shown() == {"batch size 128", "batch size 512", "batch size 2048"}
        found.page.get_by_role("checkbox", name="512", exact=True).uncheck()
        assert shown() == {"batch size 128", "batch size 2048"}
        group = found.page.get_by_role("group", name="Setting")
        assert group.get_by_role("checkbox").count() == 6
        group.get_by_role("checkbox", name="adapted", exact=True).uncheck()
        assert shown() == {"batch size 128", "batch size 2048"}  # other settings still show it


def test_headings_sort_by_number_and_by_word_with_mouse_and_keyboard(opened: Any) -> None:
    with opened("quickstart") as found:
        page = found.page
        headings = page.locator("#run-table thead th")
        column = headings.all_inner_texts().index("test accuracy, %")

        def values() -> list[float]:
            return [float(text) for text in page.locator(f"#run-table tbody tr td:nth-child({column + 1})").all_inner_texts()]

        before = values()
        page.get_by_role("button", name="test accuracy, %").click()
        assert values() == sorted(before)
        assert headings.nth(column).get_attribute("aria-sort") == "ascending"
        page.keyboard.press("Enter")
        assert values() == sorted(before, reverse=True)
        assert headings.nth(column).get_attribute("aria-sort") == "descending"
        page.get_by_role("button", name=re.compile("^cell")).click()
        assert page.locator("#run-table [aria-sort]").count() == 1
        cells = page.locator("#run-table tbody th").all_inner_texts()
        assert cells == sorted(cells, key=str.lower)
        assert len(cells) == 64


def test_words_and_outcome_filter_the_runs(opened: Any) -> None:
    with opened("troubled") as found:
        page = found.page
        rows = page.locator("#run-table tbody tr:visible")
        assert rows.count() == 16
        page.get_by_label("Outcome", exact=True).select_option("diverged")
        assert rows.count() == 2
        assert page.locator("#filter-count").inner_text() == "2 of 16 runs"
        page.get_by_label("Outcome", exact=True).select_option("")
        page.get_by_label("Search").fill("lb+lr skipped")
        assert rows.count() == 1
        page.get_by_label("Search").fill("no such run")
        assert rows.count() == 0


def test_what_went_wrong_is_said_with_its_reasons_and_text_is_never_markup(opened: Any) -> None:
    with opened("troubled") as found:
        text = found.page.locator("main").inner_text()
        assert "loss <b>is</b> not finite & nothing else" in text
        assert "LB: 2 ok of 4, 2 diverged; the cell gets no verdict" in text
        assert "never started" in text
        assert "Several versions of torch: 2.11.0 (" in text
        assert "What was predicted is not known: plan.parquet is not among these results." in text
        assert "suite.toml is not among these results" in text


def test_points_say_their_values_to_pointer_and_keyboard(opened: Any) -> None:
    with opened("quickstart") as found:
        page = found.page
        point = page.locator("#figure-accuracy_vs_batch_size .points circle").first
        point.scroll_into_view_if_needed()
        point.hover()
        assert "%" in page.locator("#tip").inner_text()
        frame = page.locator("#figure-weight_distance .frame")
        frame.focus()
        page.keyboard.press("ArrowRight")
        first = page.locator("#said").text_content()
        assert first.startswith("SB: update 1, weight distance ")
        page.keyboard.press("ArrowRight")
        assert page.locator("#said").text_content().startswith("SB: update 2, weight distance ")
        page.keyboard.press("ArrowLeft")
        assert page.locator("#said").text_content() == first
        page.keyboard.press("Escape")
        page.locator("#tip").wait_for(state="hidden", timeout=5_000)


def test_the_page_follows_the_systems_theme_and_the_readers_choice(opened: Any) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    with opened("quickstart", color_scheme="dark") as found:
        page = found.page
        assert page.evaluate(background) == "rgb(21, 23, 26)"
        page.get_by_text("Light", exact=True).click()
        assert page.evaluate(background) == "rgb(255, 255, 255)"
        page.get_by_text("Dark", exact=True).click()
        page.emulate_media(color_scheme="light")
        assert page.evaluate(background) == "rgb(21, 23, 26)"
        page.get_by_text("Auto", exact=True).click()
        assert page.evaluate(background) == "rgb(255, 255, 255)"


def test_print_is_light_and_leaves_controls_out(opened: Any) -> None:
    with opened("quickstart", color_scheme="dark") as found:
        page = found.page
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        for selector in ("nav", ".theme", ".toggles", ".filter"):
            assert page.locator(selector).is_hidden()
        assert page.locator("#verdict .lead").first.is_visible()
        printed = page.pdf(format="A4")
        assert printed.startswith(b"%PDF")
        assert printed.count(b"/Type /Page\n") > 3


def test_without_its_script_everything_can_be_read_and_toggled(opened: Any) -> None:
    with opened("quickstart", java_script_enabled=False) as found:
        page = found.page
        assert page.locator("#verdict .lead").first.is_visible()
        assert page.locator("#run-table tbody tr").count() == 64
        assert page.locator(".filter").is_hidden()
        box = page.get_by_role("checkbox", name="LB", exact=True)
        own = page.locator(f"figure .{box.get_attribute('id').removeprefix('show-')}").first
        assert own.is_visible()
        box.uncheck()
        assert own.is_hidden()


@pytest.mark.parametrize("name", ALL)
def test_a_screen_reader_finds_its_way(opened: Any, name: str) -> None:
    with opened(name) as found:
        page = found.page
        assert page.evaluate("document.documentElement.lang") == "en"
        for landmark in ("banner", "navigation", "main", "contentinfo"):
            assert page.get_by_role(landmark).count() == 1
        levels = page.eval_on_selector_all("h1, h2, h3, h4", "all => all.map(one => Number(one.tagName[1]))")
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
        ids = page.eval_on_selector_all("[id]", "all => all.map(one => one.id)")
        assert len(ids) == len(set(ids))
        targets = page.eval_on_selector_all("a[href^='#']", "all => all.map(one => one.getAttribute('href').slice(1))")
        assert set(targets) <= set(ids)
        assert page.locator("table:not(:has(caption))").count() == 0
        assert page.locator("thead th:not([scope=col]), tbody th:not([scope=row])").count() == 0
        unnamed = "all => all.filter(one => !one.labels.length).length"
        assert page.eval_on_selector_all("input, select", unnamed) == 0
        for drawing in page.locator("svg:not([aria-hidden])").all():
            assert drawing.get_attribute("role") == "img"
        named = page.get_by_role("img").all()
        assert len(named) >= 3
        for figure in page.locator("figure svg").all():
            title, description = (page.locator(f"[id='{part}']") for part in figure.get_attribute("aria-labelledby").split())
            assert title.text_content()
            assert description.text_content()


LOW_CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const parts = (color) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => { const f = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const ground = (one) => {
    for (; one; one = one.parentElement) { const c = parts(getComputedStyle(one).backgroundColor); if (c[3] === 255) return c; }
    return [255, 255, 255]; };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || !one.getClientRects().length || one.closest('.points, script, style, title, desc')) continue;
    const style = getComputedStyle(one), color = parts(one.closest('svg') ? style.fill : style.color);
    const [a, b] = [light(color), light(ground(one.closest('svg')?.parentElement ?? one))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push(`${text.slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["quickstart", "troubled"])
def test_every_text_stands_out_from_what_is_behind_it(opened: Any, name: str, scheme: str) -> None:
    with opened(name, color_scheme=scheme) as found:
        assert found.page.evaluate(LOW_CONTRAST) == []
