"""The page as people use it, in a headless Chromium, offline: hover, filter, sort, axes, brushing, keyboard, no script.

What is expected of filters and order is worked out from the study's own numbers, not read from the page.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attnsearch import report as reports
from attnsearch.core.study_info import StudyRecord
from attnsearch.report import html, page_data
from attnsearch.space.arch import Stage
from tests.test_html_browser import CHROMIUM, Browser
from tests.test_notation import MIXED, PLAIN, SAME, cbam, run, study, three
from tests.test_reports import design

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
AXE = "4.14.1"
AXE_SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
D3 = Path(html.__file__).parent / "web" / "d3"
FAR = three(*[cbam(ratio=2)] * 3)
ARCHS = [
    PLAIN,
    MIXED,
    SAME,
    three(cbam(ratio=4), Stage(), Stage()),
    three(Stage(), Stage(), cbam(ratio=4, kernel=3)),
]
LATENCY = {
    arch.key: 9.0 - i for i, arch in enumerate([*ARCHS, FAR])
}  # in ms: the costlier by MACs, the faster


def searched() -> StudyRecord:
    """Five architectures on the front, 21 to 30 % error at 40 to 41 M MACs, and one of ten times the cost and 90 %."""
    made = study(ARCHS, [40e6 + 2.5e5 * i for i in range(len(ARCHS))])
    trials = [*made.trials, replace(run(FAR, 0, 90.0, 400e6), number=len(made.trials))]
    timed = [replace(t, costs={**t.costs, "latency_ms": LATENCY[t.key]}) for t in trials]
    return replace(made, trials=tuple(timed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("page")
    reports.write(reports.build(searched()), made / "search")
    reports.write(reports.build(design()), made / "design")
    return made


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Browser]:
    try:
        page = Browser(folder / "profile")
    except (EOFError, BrokenPipeError):
        pytest.skip(f"{CHROMIUM} does not start here")
    yield page
    page.close()


@pytest.fixture
def page(browser: Browser, folder: Path) -> Browser:
    """The search's page, newly opened, 1,000 pixels wide."""
    wide(browser, 1000)
    browser.open(folder / "search" / "report.html")
    return browser


def wide(browser: Browser, width: int) -> None:
    shape = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.call("Emulation.setDeviceMetricsOverride", **shape)


def value(browser: Browser, expression: str) -> Any:
    return browser.value(f"(() => {{ {expression} }})()")


def rows(browser: Browser) -> list[str]:
    names = "[...document.querySelectorAll('#front tbody tr')].map((row) => row.cells[0].textContent)"
    return list(browser.value(names))


def points(browser: Browser) -> list[str]:
    names = "[...document.querySelectorAll('#front .points path')].map((point) => 'A' + point.dataset.arch)"
    return sorted(browser.value(names), key=lambda name: int(name[1:]))  # drawn so that the front lies on top


def choose(browser: Browser, what: str, option: str) -> None:
    value(
        browser,
        f"const box = document.getElementById('choose-{what}'); box.value = {json.dumps(option)};"
        "if (box.value === '') box.selectedIndex = -1;"
        "box.dispatchEvent(new Event('change'))",
    )


def place(browser: Browser, name: str) -> tuple[float, float]:
    """The middle of a point in the window, which is scrolled to it."""
    return tuple(
        value(
            browser,
            f"const p = document.querySelector('#front .points [data-arch=\"{name[1:]}\"]');"
            "document.querySelector('.chart').scrollIntoView({block: 'center'});"
            "const b = p.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]",
        )
    )


def mouse(browser: Browser, kind: str, x: float, y: float, pressed: bool = False) -> None:
    button = (
        {"button": "left", "buttons": int(pressed), "clickCount": 1}
        if kind != "mouseMoved" or pressed
        else {}
    )
    browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)


def test_points_and_rows_are_the_same_architectures(page):
    assert rows(page) == points(page) == ["A1", "A2", "A3", "A4", "A5"]  # by rising cost
    choose(page, "every", "true")
    assert rows(page) == points(page) == ["A1", "A2", "A3", "A4", "A5", "A6"]
    assert "6 of 6 architectures" in page.value("document.querySelector('.told').textContent")
    assert page.messages == []
    assert page.requests == []


def test_hovering_shows_strip_seeds_interval_and_costs(page):
    mouse(page, "mouseMoved", *place(page, "A2"))
    assert page.value("getComputedStyle(document.querySelector('.tip')).display") == "block"
    tip = page.value("document.querySelector('.tip').textContent")
    report = reports.build(searched())
    row = next(row for row in report.rows if row.number == 2)
    assert row.key == MIXED.key
    assert f"{row.mean:.2f} ± {row.error.half:.2f} % on 2 selection seeds" in tip
    for part in ("A2", "cbam r4 parallel", "cbam k3 r8"):
        assert part in tip
    for part in ("40.25M (1.006 x the baseline)", "latency", "8 (0.889 x the baseline)", "undecided"):
        assert part in tip
    assert page.value("document.querySelector('#front tbody tr.at th').textContent") == "A2"
    mouse(page, "mouseMoved", 5, 5)
    assert page.value("getComputedStyle(document.querySelector('.tip')).display") == "none"


def tick(browser: Browser, what: str, *options: str) -> None:
    """Tick these of a choice of several, and no other."""
    value(
        browser,
        f"for (const box of document.querySelectorAll('#pick-{what} input'))"
        f"if (box.checked !== {json.dumps(options)}.includes(box.value)) box.click();",
    )


def test_filters_by_block_stage_and_option_keep_points_and_rows_together(page):
    tick(page, "stage", "stage 3")
    tick(page, "block", "cbam")
    assert rows(page) == points(page) == ["A2", "A3", "A5"]
    tick(page, "option", "cbam ratio 4")
    assert rows(page) == points(page) == ["A3", "A5"]
    tick(page, "block", "-")
    tick(page, "option")
    assert rows(page) == points(page) == ["A1", "A4"]
    tick(page, "option", "cbam ratio 4")
    assert (rows(page), points(page)) == ([], [])
    assert "No architecture is like that" in page.value("document.querySelector('.told').textContent")


def test_values_of_one_option_are_alternatives_and_options_hold_together_in_one_stage(page):
    tick(page, "option", "cbam ratio 8")
    assert rows(page) == points(page) == ["A2"]
    tick(page, "option", "cbam ratio 8", "cbam ratio 4")
    assert rows(page) == points(page) == ["A2", "A3", "A4", "A5"]
    tick(page, "option", "cbam ratio 8", "cbam ratio 4", "cbam kernel 3")
    assert rows(page) == points(page) == ["A2", "A3", "A5"]  # A2: ratio 8 and kernel 3 in its third stage
    tick(page, "option", "cbam ratio 4", "cbam kernel 3")
    assert rows(page) == points(page) == ["A3", "A5"]  # A2 has both, but not in one stage
    tick(page, "stage", "stage 1", "stage 2")
    assert rows(page) == points(page) == ["A3"]
    assert (
        page.value("document.querySelector('#pick-stage summary').textContent") == "Stage: stage 1, stage 2"
    )


def test_several_options_are_ticked_by_keyboard(page):
    page.value("document.querySelector('#pick-option summary').focus()")
    key(page, "Enter")
    assert page.value("document.getElementById('pick-option').open") is True
    ticked = []
    for _ in range(2):
        key(page, "Tab")
        key(page, " ")
        ticked.append(page.value("document.activeElement.value"))
    assert page.value("[...document.querySelectorAll('#pick-option :checked')].map((b) => b.value)") == ticked
    key(page, "Escape")
    assert page.value("document.getElementById('pick-option').open") is False
    assert page.value("document.activeElement.textContent") == f"Option: {', '.join(ticked)}"
    assert rows(page) == points(page)
    assert len(rows(page)) < 5


def gap(browser: Browser, first: str, second: str) -> float:
    return place(browser, second)[0] - place(browser, first)[0]


def wheel(browser: Browser, x: float, y: float, up: bool, ctrl: bool) -> None:
    turn = {"deltaX": 0, "deltaY": -100 if up else 100, "modifiers": 2 if ctrl else 0}
    browser.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, **turn)


def test_the_wheel_zooms_around_the_pointer_and_back(page):
    before, (x, y) = gap(page, "A3", "A4"), place(page, "A3")
    wheel(page, x, y, up=True, ctrl=True)
    assert gap(page, "A3", "A4") == pytest.approx(1.25 * before, rel=0.01)
    assert place(page, "A3") == pytest.approx((x, y), abs=1)
    for _ in range(8):
        wheel(page, x, y, up=True, ctrl=True)
    assert points(page) == ["A3"]  # the others lie outside
    assert rows(page) == ["A1", "A2", "A3", "A4", "A5"]
    assert "Zoomed in: 4 lie outside" in page.value("document.querySelector('.told').textContent")
    labels = "[...document.querySelectorAll('.axes g:first-of-type text')].map((t) => t.textContent)"
    assert len(set(page.value(labels))) == len(page.value(labels)) > 1  # no two ticks alike, however deep
    for _ in range(12):
        wheel(page, x, y, up=False, ctrl=True)
    assert gap(page, "A3", "A4") == pytest.approx(before, rel=0.01)
    assert "Zoomed" not in page.value("document.querySelector('.told').textContent")
    assert page.messages == []


def test_the_wheel_alone_scrolls_the_page(page):
    before, (x, y) = gap(page, "A3", "A4"), place(page, "A3")
    wheel(page, x, y, up=False, ctrl=False)
    assert gap(page, "A3", "A4") == pytest.approx(before, rel=0.01)


@pytest.mark.parametrize("scale", ["linear", "log", "above"])
def test_plus_minus_and_zero_zoom_by_keyboard_on_every_axis(page, scale):
    choose(page, "scale", scale)
    whole = gap(page, "A1", "A2")
    page.value("document.querySelector('.chart svg').focus()")
    key(page, "ArrowRight")  # to A1
    key(page, "+")
    assert gap(page, "A1", "A2") == pytest.approx(2 * whole, rel=0.02)
    moved = place(page, "A1")[0]
    key(page, "ArrowRight", shift=True)
    assert "A1" not in points(page) or place(page, "A1")[0] < moved
    key(page, "0")
    assert gap(page, "A1", "A2") == pytest.approx(whole, rel=0.02)


def test_tables_sort_by_number_and_turn_round(page):
    click = "document.querySelector('#front th[data-key=error] button').click()"
    page.value(click)
    assert rows(page) == ["A5", "A4", "A3", "A2", "A1"]  # each better than the cheaper one
    assert page.value("document.querySelector('#front th[data-key=error]').ariaSort") == "ascending"
    page.value(click)
    assert rows(page) == ["A1", "A2", "A3", "A4", "A5"]


def test_the_axis_takes_any_cost_linear_or_logarithmic(page):
    def across() -> list[str]:
        return sorted(points(page), key=lambda name: place(page, name)[0])

    assert across() == ["A1", "A2", "A3", "A4", "A5"]
    choose(page, "cost", "latency_ms")
    assert across() == ["A5", "A4", "A3", "A2", "A1"]
    assert "latency" in page.value(
        "[...document.querySelectorAll('.axes .title')].map((t) => t.textContent).join()"
    )
    assert page.value("document.querySelector('#front th[data-key=price]').textContent").startswith("latency")

    def gap() -> float:  # of 5 and 6 ms, over that of 8 and 9 ms
        at = {name: place(page, name)[0] for name in points(page)}
        return (at["A4"] - at["A5"]) / (at["A1"] - at["A2"])

    assert gap() == pytest.approx(1, abs=0.02)
    choose(page, "scale", "log")
    assert gap() == pytest.approx(0.18232 / 0.11778, rel=0.02)  # log(6 / 5) / log(9 / 8)


def test_an_architecture_of_ten_times_the_cost_stands_at_the_edge_and_is_counted(page):
    near = place(page, "A5")[0] - place(page, "A1")[0]
    choose(page, "every", "true")
    assert place(page, "A5")[0] - place(page, "A1")[0] == pytest.approx(near, rel=0.01)
    assert "1 lie outside" in page.value("document.querySelector('.told').textContent").replace(
        "1 lies", "1 lie"
    )
    choose(page, "whole", "true")
    assert place(page, "A5")[0] - place(page, "A1")[0] < near / 10
    assert "outside" not in page.value("document.querySelector('.told').textContent")


def test_brushing_marks_the_rows_of_the_points_and_escape_lets_them_go(page):
    (x3, y3), (x4, y4) = place(page, "A3"), place(page, "A4")
    mouse(page, "mousePressed", x3 - 30, y3 - 30, True)
    mouse(page, "mouseMoved", x4, y4, True)
    mouse(page, "mouseMoved", x4 + 20, y4 + 30, True)
    mouse(page, "mouseReleased", x4 + 20, y4 + 30)
    marked = (
        "return [...document.querySelectorAll('#front tr.marked')].map((row) => row.cells[0].textContent)"
    )
    assert value(page, marked) == ["A3", "A4"]
    assert rows(page) == ["A3", "A4", "A1", "A2", "A5"]
    assert page.value("document.querySelectorAll('.points .marked').length") == 2
    page.value("document.querySelector('.chart svg').focus()")
    key(page, "Escape")
    assert value(page, marked) == []


def key(browser: Browser, name: str, shift: bool = False) -> None:
    codes = {"Escape": 27, "Enter": 13, "ArrowRight": 39, "ArrowLeft": 37, "Tab": 9, " ": 32}
    text = {"Enter": "\r", "Escape": "", "Tab": ""}.get(name, name if len(name) == 1 else "")
    for kind in ("keyDown", "keyUp"):
        browser.call(
            "Input.dispatchKeyEvent",
            **{"type": kind, "key": name, "code": {" ": "Space"}.get(name, name), "modifiers": 8 * shift},
            **{
                "windowsVirtualKeyCode": codes.get(name, ord(name[0])),
                "text": text if kind == "keyDown" else "",
            },
        )


def test_the_keyboard_goes_from_point_to_point_and_says_each(page):
    page.value("document.querySelector('.chart svg').focus()")
    key(page, "ArrowRight")
    key(page, "ArrowRight")
    told = page.value("document.querySelector('[role=status]').textContent")
    assert told.startswith("A2: cbam r4 parallel, nothing, cbam k3 r8.")
    assert "2 selection seeds" in told
    key(page, "Enter")
    assert page.value("document.querySelector('#front tr.marked th').textContent") == "A2"


def test_an_interval_that_nothing_cuts_is_written_with_one_number(page):
    """Its ends and its mean are rounded for the page, which must not make it look lopsided."""
    cells = "[...document.querySelectorAll('#front tbody tr')].map((row) => row.cells[3].textContent)"
    expected = {f"{row.mean:.2f} ± {row.error.half:.2f}" for row in reports.build(searched()).rows[:5]}
    assert set(page.value(cells)) == expected


def test_without_script_the_picture_and_the_table_stand(browser, folder):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(folder / "search" / "report.html")
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert browser.value("document.getElementById('front').hidden") is True
    assert browser.value("document.querySelector('.still img').getBoundingClientRect().height > 100") is True
    assert browser.value("document.querySelectorAll('.still tbody tr').length") == 5


@pytest.mark.parametrize("width", [360, 390, 1000, 1600, 1920])
@pytest.mark.parametrize("kind", ["search", "design"])
def test_no_page_is_wider_than_its_window(browser, folder, kind, width):
    wide(browser, width)
    browser.open(folder / kind / "report.html")
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.messages == []


def test_a_design_opens_with_its_differences_and_verdicts(browser, folder):
    wide(browser, 1000)
    browser.open(folder / "design" / "report.html")
    assert browser.value("document.querySelector('main img').alt").startswith("se: gain")
    assert browser.value("document.querySelector('main h2').textContent") == "Verdicts"


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core from npm's cache or registry, for this test alone."""
    home = Path(__file__).parents[1] / ".axe"
    file = home / f"axe-{AXE}.min.js"
    if not file.exists():
        if shutil.which("npm") is None:
            pytest.skip("npm is not installed")
        home.mkdir(exist_ok=True)
        got = subprocess.run(
            ["npm", "pack", f"axe-core@{AXE}", "--silent"],
            cwd=home,
            capture_output=True,
            timeout=60,
            check=False,
        )
        if got.returncode:
            pytest.skip("axe-core cannot be fetched")
        with tarfile.open(home / f"axe-core-{AXE}.tgz") as packed:
            file.write_bytes(packed.extractfile("package/axe.min.js").read())  # type: ignore[union-attr]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == AXE_SHA256
    return file.read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["search", "design"])
def test_axe_finds_no_serious_violation(browser, folder, axe, kind, scheme):
    wide(browser, 1000)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(folder / kind / "report.html")
    browser.value("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    browser.value(axe)
    done = browser.call(
        "Runtime.evaluate",
        expression="axe.run().then((found) => JSON.stringify(found.violations.filter((v) => "
        "['serious', 'critical'].includes(v.impact)).map((v) => [v.id, v.nodes.map((n) => n.html.slice(0, 150))])))",
        awaitPromise=True,
        returnByValue=True,
    )
    browser.call("Emulation.setEmulatedMedia", features=[])
    assert json.loads(done["result"]["value"]) == []


def test_the_page_writes_the_two_places_that_tables_write():
    numbers = [2.9749999999999996, 19.2375, 5.645, 1.0055]
    assert [f"{page_data._places(value):.2f}" for value in numbers] == [f"{value:.2f}" for value in numbers]
    assert page_data._places(2.97123) == 2.971


def test_no_word_of_a_study_ends_the_data():
    made = searched()
    evil = replace(made.trials[0], costs={**made.trials[0].costs, "</script><script>alert(1)//": 1.0})
    text = page_data.text(reports.build(replace(made, trials=(evil, *made.trials[1:]))))
    assert "<" not in text
    assert any("</script>" in entry["name"] for entry in json.loads(text)["costs"])


def test_the_libraries_are_what_their_list_says():
    listed = json.loads((D3 / "SOURCES.json").read_text())["modules"]
    assert {module["file"] for module in listed} == {file.name for file in D3.glob("*.js")}
    for module in listed:
        content = (D3 / module["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == module["sha256"]
        assert f"v{module['version']}".encode() in content[:100]
        assert not any(word in content for word in (b"eval(", b"Function(", b"</script"))
    assert (D3 / "LICENSE").read_text().startswith("Copyright 2010-2026 Mike Bostock")
    assert len(html.scripts().encode()) < 1_500_000
