"""The page in a real browser: an installed Chromium, found by its path. `make test-browser`.

PAGE_RUN and PAGE_IMAGES drive a run of yours instead of the tiny one; PAGE_SCREENSHOTS names a folder for screenshots.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[3]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def chromium() -> str:
    """Path of an installed Chromium; skips, with the reason, where there is none."""
    found = next((path for path in (os.environ.get("CHROMIUM"), *map(shutil.which, NAMES)) if path), None)
    if found is None:
        pytest.skip(f"no Chromium: none of {', '.join(NAMES)} is in PATH, and CHROMIUM does not name one")
    for package in ("playwright", "gradio"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed (requirements-page.txt)")
    return found


@pytest.fixture(scope="module")
def served(base_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Address of the page and its log folder; the server is a process of its own, as for a user."""
    chromium()
    run = Path(os.environ.get("PAGE_RUN", base_run))
    images = Path(os.environ.get("PAGE_IMAGES", base_run.parent / "images"))
    log = tmp_path_factory.mktemp("browser") / "log"
    words = ["serve", "--run", run, "--images", images, "--log", log, "--port", 0, "--max-upload-mb", 1]
    if "PAGE_RUN" not in os.environ:  # the tiny network needs strong steps to show something
        words += ["--learning-rate", 0.1]
    process = subprocess.Popen(
        [sys.executable, "-m", "feedback", *map(str, words)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said = ""
    for line in process.stdout:
        said += line
        if found := re.search(r"http://127\.0\.0\.1:\d+/\?token=[\w-]+", line):
            yield found[0], log
            break
    else:
        pytest.fail(f"the server did not start:\n{said}")
    process.terminate()
    process.wait(30)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # Containers and CI run as root, where Chromium needs this; the page comes from this machine.
        running = driver.chromium.launch(executable_path=path, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield running
        running.close()


class Page:
    """One tab with the steps that the tests share."""

    def __init__(self, browser, address: str, width: int = 1200, height: int = 900, zoom: float = 1.0) -> None:
        context = browser.new_context(viewport={"width": round(width / zoom), "height": round(height / zoom)}, device_scale_factor=zoom)
        self.tab = context.new_page()
        self.tab.set_default_timeout(60_000)
        self.requested: list[str] = []
        self.errors: list[str] = []
        self.tab.on("request", lambda request: self.requested.append(request.url))
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.on("console", lambda entry: self.errors.append(entry.text) if entry.type == "error" else None)
        self.tab.goto(address)
        self.tab.wait_for_selector("#said h3")
        self.tab.wait_for_selector("#overlay img")

    def name(self) -> str:
        return self.tab.locator("#image-name input").input_value()

    def picture(self, place: str = "overlay") -> np.ndarray:
        """Pixels of a picture of the page."""
        source = self.tab.locator(f"#{place} img").get_attribute("src")
        answer = self.tab.request.get(source)
        path = Path(os.environ.get("TMPDIR", "/tmp")) / f"page-test-{os.getpid()}.png"
        path.write_bytes(answer.body())
        try:
            return np.asarray(Image.open(path).convert("RGB"))
        finally:
            path.unlink()

    def press(self, name: str, contains: str, place: str = "outcome") -> str:
        """Press a button and wait until `place` says `contains`."""
        self.tab.locator(f"#{name}").click()
        self.wait_for(contains, place)
        return self.tab.locator(f"#{place}").inner_text()

    def wait_for(self, contains: str, place: str = "outcome") -> None:
        self.tab.wait_for_function("([place, text]) => document.getElementById(place)?.innerText.includes(text)", arg=[place, contains])

    def choose(self, case: str) -> None:
        self.tab.get_by_label(case, exact=True).check()
        self.tab.wait_for_selector("#editor canvas")

    def outline(self, left: float, top: float, right: float, bottom: float) -> None:
        """Draw a box around with the outline tool; shares of the picture."""
        self.tab.get_by_role("button", name="Outline (filled)").click()
        canvas = self.tab.locator("#editor canvas")
        canvas.scroll_into_view_if_needed()
        frame = canvas.bounding_box()
        places = [(left, top), (right, top), (right, bottom), (left, bottom)]
        corners = [(frame["x"] + x * frame["width"], frame["y"] + y * frame["height"]) for x, y in places]
        self.tab.mouse.move(*corners[0])
        self.tab.mouse.down()
        for corner in corners[1:]:
            self.tab.mouse.move(*corner, steps=5)
        self.tab.mouse.up()

    def share(self) -> float:
        """Share of the image that the page takes the region for."""
        said = self.press("preview", "of the image", "message")
        return int(re.search(r"(\d+)% of the image", said)[1]) / 100

    def shoot(self, name: str, place: str | None = None) -> None:
        if folder := os.environ.get("PAGE_SCREENSHOTS"):
            target = Path(folder) / f"{name}.png"
            self.tab.mouse.move(0, 0)
            if place:
                self.tab.locator(place).screenshot(path=target)
            else:
                self.tab.screenshot(path=target, full_page=True)
            with Image.open(target) as shot:
                shot.convert("RGB").quantize(128).save(target, optimize=True)


@pytest.fixture
def page(browser, served) -> Iterator[Page]:
    opened = Page(browser, served[0])
    yield opened
    opened.tab.context.close()


def entries(log: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted((log / "entries").glob("*.json"))]


def test_draw_learn_undo_export(page, served):
    log = served[1]
    notice = page.tab.locator("#notice").inner_text()
    assert "Research software" in notice
    assert "not a diagnosis" in notice
    first = page.picture()
    page.shoot("1_looking")
    page.choose("Class right, region wrong")
    page.outline(0.25, 0.25, 0.7, 0.75)
    assert page.share() == pytest.approx(0.45 * 0.5, abs=0.03)
    page.shoot("2_correcting")
    said = page.press("learn", "learned in")
    assert "overlap with your region" in said
    (entry,) = entries(log)
    assert (entry["image"], entry["case"], entry["status"]) == (page.name(), "region_wrong", "learned")
    mask = np.asarray(Image.open(log / entry["mask"])) > 0
    rows, columns = np.nonzero(mask)
    assert columns.min() / mask.shape[1] == pytest.approx(0.25, abs=0.04)
    assert rows.max() / mask.shape[0] == pytest.approx(0.75, abs=0.04)
    # The map has changed, and the page shows it: above, and beside the one before.
    assert np.abs(page.picture().astype(int) - first).max() > 5
    assert np.abs(page.picture("after").astype(int) - page.picture("before")).max() > 5
    page.shoot("3_learned")
    page.press("export", "Exported to")
    folder = log / "export-0001"
    assert {path.name for path in folder.iterdir()} >= {"model.keras", "report.md", "corrections.csv", "figures"}
    assert len(list(folder.glob("*_GroundTruth/*_segmentation.png"))) == 1
    page.press("undo", "is undone")
    np.testing.assert_array_equal(page.picture(), first)
    assert entries(log)[0]["status"] == "undone"
    assert page.errors == []


def test_nothing_is_fetched_from_elsewhere(page, served):
    address = served[0].split("?")[0]
    assert len(page.requested) > 5
    assert [url for url in page.requested if not url.startswith((address, "data:", "blob:"))] == []
    html = page.tab.request.get(address)
    assert "default-src 'self'" in html.headers["content-security-policy"]
    named = set(re.findall(r"(?:src|href|content)=\"(https?://[^\"]+)", html.text()))
    assert {url for url in named if not url.startswith(address)} == set()
    # Even a script that got in could not call out.
    blocked = page.tab.evaluate("() => fetch('https://example.com/').then(() => 'sent', () => 'blocked')")
    assert blocked == "blocked"


def test_no_file_beside_the_pictures_is_served(served):
    (address, _, word), log = served[0].partition("?"), served[1]
    for path in ("/etc/passwd", log / "session.json", ROOT / "README.md", log / "base" / "model.keras"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{address}gradio_api/file={path}?{word}", timeout=30)
        assert refused.value.code in (403, 404)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(served[0], headers={"Host": "evil.example"}), timeout=30)
    assert refused.value.code == 403


def test_keyboard_alone_is_enough(page, served):
    count = len(entries(served[1]))
    tab = page.tab
    tab.locator("#case input").first.focus()
    tab.keyboard.press("Tab")  # from "both right" to "class right, region wrong": Gradio's radios are single stops
    tab.keyboard.press("Space")
    tab.wait_for_selector("#editor canvas")
    for _ in range(30):  # Tab reaches the drawing area
        if tab.evaluate("document.activeElement.tagName") == "CANVAS":
            break
        tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.tagName") == "CANVAS"
    tab.keyboard.press("Space")
    for _ in range(3):
        tab.keyboard.press("Shift+ArrowRight")
    tab.keyboard.press("Space")
    for _ in range(10):
        if tab.evaluate("document.activeElement.id || document.activeElement.closest('button')?.id") == "learn":
            break
        tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    page.wait_for("learned in")
    entry = entries(served[1])[count]
    mask = np.asarray(Image.open(served[1] / entry["mask"])) > 0
    assert mask[mask.shape[0] // 2, int(0.58 * mask.shape[1])]
    assert not mask[0].any()
    page.press("undo", "is undone")


def test_ellipse_by_numbers(page, served):
    count = len(entries(served[1]))
    page.choose("Class right, region wrong")
    page.tab.get_by_label("Ellipse by numbers").check()
    page.tab.locator("#ellipse-x input[type=number]").fill("30")
    page.press("learn", "learned in")
    entry = entries(served[1])[count]
    assert entry["region"] == "ellipse"
    mask = np.asarray(Image.open(served[1] / entry["mask"])) > 0
    assert mask.mean() == pytest.approx(np.pi / 4 * 0.25, abs=0.03)
    assert np.nonzero(mask)[1].mean() / mask.shape[1] == pytest.approx(0.3, abs=0.03)
    page.press("undo", "is undone")


def test_readable_and_usable_at_200_per_cent(browser, served):
    page = Page(browser, served[0], zoom=2.0)
    page.choose("Class right, region wrong")
    assert page.tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.outline(0.2, 0.2, 0.8, 0.8)
    assert page.share() == pytest.approx(0.6 * 0.6, abs=0.04)
    page.shoot("4_zoom_200")
    page.tab.context.close()


def test_wrong_input_says_so_and_writes_nothing(page, served, tmp_path):
    count = len(entries(served[1]))
    page.tab.locator("#learn").click()
    page.wait_for("choose first which of the four cases", "message")
    page.choose("Class right, region wrong")
    page.tab.locator("#learn").click()
    page.wait_for("no region is drawn", "message")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
    page.tab.locator("#upload input, input#upload, input[type=file]").first.set_input_files(tmp_path / "broken.png")
    page.wait_for("cannot be read as an image", "message")
    assert len(entries(served[1])) == count
    assert not list((served[1] / "uploads").glob("*")) if (served[1] / "uploads").is_dir() else True


def test_an_upload_can_be_corrected(page, served, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype("uint8")).save(tmp_path / "mine.png")
    page.tab.locator("#upload input, input#upload, input[type=file]").first.set_input_files(tmp_path / "mine.png")
    page.tab.wait_for_function("document.querySelector('#image-name input').value.startsWith('upload/')")
    page.tab.get_by_label("Both right", exact=True).check()
    page.press("learn", "nothing to learn")
    page.press("undo", "is undone")


def test_two_tabs_share_one_log(browser, served, page):
    log = served[1]
    other = Page(browser, served[0])
    count = len(entries(log))
    page.choose("Class right, region wrong")
    page.outline(0.3, 0.3, 0.6, 0.6)
    page.press("learn", "learned in")
    # The other tab still shows the model as it was: it must look again before it takes something back.
    other.tab.locator("#undo").click()
    other.wait_for("Another tab has changed the model", "message")
    assert [entry["status"] for entry in entries(log)[count:]] == ["learned"]
    page.press("undo", "is undone")
    other.tab.context.close()
