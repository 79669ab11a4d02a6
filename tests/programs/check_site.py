"""Check the built web pages: no broken links, nothing loaded from other servers, no errors in a browser.

Run: ``python -m tests.programs.check_site lessons/out/site``. Links and sources are checked in the files. If Chromium
is installed, every page is also opened in a wide and in a narrow window, without network.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

WINDOWS = ("1280,1600", "420,900")
_LOADS = {("script", "src"), ("img", "src"), ("img", "srcset"), ("iframe", "src"), ("source", "src"), ("link", "href")}


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
            elif parts.fragment and other in pages and unquote(parts.fragment) not in pages[other].names:
                yield f"{where}: {target}: that page has no such anchor"
    for style in folder.rglob("*.css"):
        for target in re.findall(r"(?:url\(|@import\s+)['\"]?(https?:)?//", style.read_text(encoding="utf-8")):
            yield f"{style.name}: loads from {target or ''}//"


def browser_errors(page, browser, window):
    """Open a page in a headless browser without network; yield the errors of its console and its loader."""
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={window}",
                f"--user-data-dir={profile}",
                "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--log-level=0",
                "--virtual-time-budget=2000",
                "--dump-dom", page.resolve().as_uri(),
            ],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    if "<html" not in done.stdout:
        yield f"{page.name}: the browser did not open it"
    for line in done.stderr.splitlines():
        if "CONSOLE" in line and ("rror" in line or "ERR_" in line or "efused" in line):
            yield f"{page.name}: {line.split('] ', 1)[-1]}"


def main():
    """Check a folder of pages; print what is wrong, and exit with 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    found, pages = list(broken_links(folder)), sorted(folder.rglob("*.html"))
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    for page in pages if browser else []:
        for window in WINDOWS:
            found += browser_errors(page, browser, window)
    for line in found:
        print(line)
    opened = (
        f"opened in {len(WINDOWS)} windows of {Path(browser).name}"
        if browser
        else "not opened, because Chromium is not installed"
    )
    print(f"{len(pages)} pages, {opened}; {len(found) or 'no'} errors")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
