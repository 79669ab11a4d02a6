"""Check the built web pages: links, downloads, and how every page looks in a browser.

Run: ``python -m tests.programs.check_site lessons/out/site``. Links, sources and the Chinese pages, below ``zh``, are
checked in the files. Every page is also opened in Chromium (of the pages of source code every twentieth), without
network, in a wide light window and in a narrow dark one: no error in the console, no page wider than its window, no
clipped line, no line of code that wraps in the wide window (what a lesson prints may), pictures for dark pages in dark
pages, and the page to try computes what the package computes. This needs Playwright (the extra ``site``) and an
installed Chromium; without them the pages are not opened.

``--notebooks PYTHON`` also runs every notebook that the site offers, in an empty folder, with that Python, in whose
environment only the package, nbclient and ipykernel are installed.
"""

import argparse
import base64
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np

WINDOWS = ((1280, "light"), (390, "dark"))
_LOADS = {("script", "src"), ("img", "src"), ("img", "srcset"), ("iframe", "src"), ("source", "src"), ("link", "href")}

# In the page: what is wider than the window, or cut off, and which lines of code wrap.
_LOOK = """(wide) => {
    const found = [], root = document.documentElement;
    if (root.scrollWidth > window.innerWidth) found.push("the page is " + root.scrollWidth + " pixels wide");
    for (const box of document.querySelectorAll("pre, p, li, td, h1, h2, h3, dt")) {
        const style = getComputedStyle(box), text = box.textContent.trim().slice(0, 60);
        if (!box.checkVisibility()) continue;
        if (box.scrollWidth > box.clientWidth + 1 && style.display !== "inline") found.push("clipped: " + text);
    }
    if (wide && location.pathname.includes("/lessons/")) for (const line of document.querySelectorAll(
        ":not(.sphx-glr-script-out) > .highlight pre .line")) {
        const style = getComputedStyle(line);
        const height = parseFloat(style.lineHeight) || 1.2 * parseFloat(style.fontSize);
        if (line.checkVisibility() && line.getBoundingClientRect().height > 1.5 * height)
            found.push("wraps: " + line.textContent.trim().slice(0, 60));
    }
    const shown = [...document.querySelectorAll("article img")].filter((image) => image.checkVisibility());
    for (const image of shown) if (image.complete && !image.naturalWidth) found.push("no picture: " + image.src);
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    for (const image of shown) if (/sphx_glr_\\w+_\\d{3}(_dark)?\\.png/.test(image.src) &&
        image.src.includes("_dark.") !== dark) found.push("a picture for the other colour scheme: " + image.src);
    return found;
}"""


class _Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.names, self.links = set(), []  # (tag, attribute, target)
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for attribute, value in attributes:
            if attribute in ("id", "name") and value:
                self.names.add(value)
            elif attribute == "srcset" and value:
                self.links += [(tag, attribute, part.split()[0]) for part in value.split(",")]
            elif attribute in ("href", "src") and value:
                self.links.append((tag, attribute, value))


def broken_links(folder):
    """Yield a line for each broken link and for each file that a page would load from another server."""
    folder = Path(folder)
    pages = {path.resolve(): _Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    if not pages:
        yield f"{folder}: no pages"
    for path, page in pages.items():
        for tag, attribute, target in page.links:
            where, parts = path.relative_to(folder.resolve()), urlsplit(target)
            if parts.scheme in ("http", "https") or parts.netloc:
                if (tag, attribute) in _LOADS:
                    yield f"{where}: {tag} loads {target}"
                continue
            if parts.scheme:  # mailto:, data:
                continue
            other = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not other.exists():
                yield f"{where}: {target} does not exist"
            elif "_modules" in where.parts:
                continue  # Sphinx links a class back by the last module that imports it; the page is right
            elif parts.fragment and other in pages and unquote(parts.fragment) not in pages[other].names:
                yield f"{where}: {target}: that page has no such anchor"
    for style in folder.rglob("*.css"):
        for target in re.findall(r"(?:url\(|@import\s+)['\"]?(https?:)?//", style.read_text(encoding="utf-8")):
            yield f"{style.name}: loads from {target or ''}//"


def lesson_faults(folder):
    """Yield a line for each lesson's page that lacks its downloads, a fold, a link to the paper or a dark picture."""
    for path in sorted(Path(folder).glob("lessons/[0-9][0-9]_*.html")):
        text = path.read_text(encoding="utf-8")
        for what, pattern in (
            ("visible notebook", rf'class="downloads.*?{path.stem}\.ipynb'),
            ("visible archive", rf'class="downloads.*?{path.stem}\.zip'),
            ("folded code of the figure", r'<details class="plot">.*?keep'),
            ("link to its section of the paper", r'href="\.\./paper\.html#section-'),
            ("picture for dark pages", r"_dark\.png"),
        ):
            if not re.search(pattern, text, re.S):
                yield f"{path.name}: no {what}"


def language_faults(folder):
    """Yield a line for each page that lacks the link to the page in the other language, and if Chinese is missing."""
    folder = Path(folder)
    chinese = [path for path in sorted(folder.glob("zh/**/*.html")) if path.stem not in ("genindex", "search")]
    if not chinese:
        yield f"{folder}: no Chinese pages"
    for path in chinese:
        text, english = path.read_text(encoding="utf-8"), folder / path.relative_to(folder / "zh")
        if 'lang="zh-CN"' not in text or not re.search("[\u4e00-\u9fff]", text):
            yield f"{path.relative_to(folder)}: not in Chinese"
        for page, other in ((path, english), (english, path)):
            links = _Page(page.read_text(encoding="utf-8")).links if page.is_file() else []
            if other.resolve() not in [(page.parent / target).resolve() for _, _, target in links]:
                yield f"{page.relative_to(folder)}: no link to {other.relative_to(folder)}"


def notebook_errors(path, python):
    """Run a notebook in an empty folder with another Python; yield a line if it fails or shows no figure."""
    code = (
        "import sys, nbclient, nbformat\n"
        "notebook = nbformat.read(sys.argv[1], 4)\n"
        "nbclient.NotebookClient(notebook, timeout=1200, resources={'metadata': {'path': '.'}}).execute()\n"
        "outputs = [output for cell in notebook.cells for output in cell.get('outputs', [])]\n"
        "sys.exit(not any('image/png' in output.get('data', {}) for output in outputs) and 'it shows no figure')\n"
    )
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            [python, "-c", code, str(Path(path).resolve())], cwd=empty, capture_output=True, text=True
        )
    if done.returncode:
        yield f"{Path(path).name}: {(done.stderr.strip() or 'failed').splitlines()[-1]}"


class Browser:
    """Chromium without network, driven by Playwright."""

    def __init__(self, executable):
        from playwright.sync_api import sync_playwright

        self.driver = sync_playwright().start()
        self.chromium = self.driver.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])

    def close(self):
        """End the browser and its driver."""
        self.chromium.close()
        self.driver.stop()

    def faults(self, path, width, scheme):
        """Open a page in a window of some width, light or dark; yield what is wrong with it."""
        context = self.chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        page, found = context.new_page(), []
        page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: found.append(str(error)))
        page.on("requestfailed", lambda request: found.append(f"could not load {request.url}"))
        page.goto(Path(path).resolve().as_uri())
        found += page.evaluate(_LOOK, width > 1000)
        if page.query_selector("#look-data"):
            page.wait_for_selector("#look[data-ready]", timeout=60_000)
            found += look_faults(page)
        context.close()
        for fault in dict.fromkeys(found):
            yield f"{Path(path).name}, {width} pixels, {scheme}: {fault}"


def look_faults(page):
    """Yield what is wrong with the page to try: its maps against those of the package, and what the mouse does."""
    from tinyalex.layers import LRN, Conv2d, MaxPool, ReLU

    data = page.evaluate("tinyalexLook.data")
    size, k, maps, columns = (data[key] for key in ("size", "k", "maps", "columns"))
    pixels = np.array(page.evaluate("tinyalexLook.pixels()"), float).reshape(1, size, size, 4)[..., :3]
    kernels, biases = (np.frombuffer(base64.b64decode(data[key]), "<f4") for key in ("kernels", "biases"))
    conv = Conv2d(3, maps, k, data["stride"]).build(dtype="float64")
    conv.W.value = kernels.reshape(maps, k, k, 3).transpose(1, 2, 3, 0).astype(float)
    conv.b.value = biases.astype(float)
    norm = data["norm"]
    lrn = LRN(norm["n"], norm["k"], norm["alpha"], norm["beta"])
    stages = {"sum": conv.forward((pixels - data["mean"]) * data["scale"])}
    stages["relu"] = ReLU().forward(stages["sum"])
    stages["norm"] = np.concatenate([lrn.forward(half) for half in np.split(stages["relu"], columns, axis=3)], axis=3)
    stages["pool"] = MaxPool(3, 2, rounding="floor").forward(stages["norm"])
    for name, ours in stages.items():
        for number in (0, maps // columns, maps - 1):
            shown = np.array(page.evaluate(f"Array.from(tinyalexLook.stage('{name}', {number}))"))
            if not np.allclose(shown.reshape(ours.shape[1:3]), ours[0, :, :, number], rtol=1e-4, atol=1e-5):
                yield f"map {number} after {name} differs from the package's"
    box, before = page.locator("#look .photo").bounding_box(), page.inner_text("#look .numbers")
    for across, down in ((0.3, 0.6), (0.7, 0.6), (0.7, 0.35)):
        page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
        now = page.inner_text("#look .numbers")
        if now == before:
            yield "moving the mouse over the picture changes nothing"
        before = now
    page.locator("#look .kernels button").nth(maps - 1).click()
    if page.locator("#look .kernels button[aria-pressed=true]").count() != 1:
        yield "a click does not choose one kernel"


def main():
    """Check a folder of pages; print what is wrong, and exit with 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--notebooks", metavar="PYTHON", help="run the notebooks with this Python")
    parser.add_argument("--only", default="", help="open only pages and notebooks whose path contains this")
    options = parser.parse_args()
    folder = options.folder
    found = [*broken_links(folder), *lesson_faults(folder), *lesson_faults(folder / "zh")]
    pages = [path for path in sorted(folder.rglob("*.html")) if options.only in path.as_posix()]
    sources = [path for path in pages if "_modules" in path.parts]  # all alike, and too many to open each
    pages = [path for path in pages if path not in sources] + sources[::20]
    found += language_faults(folder)
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    opened = "not opened, because Chromium or Playwright is not installed"
    if executable and importlib.util.find_spec("playwright"):
        browser = Browser(executable)
        for page in pages:
            for width, scheme in WINDOWS:
                found += browser.faults(page, width, scheme)
        browser.close()
        opened = f"opened in {len(WINDOWS)} windows of {Path(executable).name}"
    notebooks = []
    if options.notebooks:
        notebooks = [path for path in sorted(folder.glob("_downloads/**/*.ipynb")) if options.only in path.as_posix()]
        for path in notebooks:
            found += notebook_errors(path, options.notebooks)
    for line in found:
        print(line)
    print(f"{len(pages)} pages, {opened}; {len(notebooks)} notebooks run; {len(found) or 'no'} errors")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
