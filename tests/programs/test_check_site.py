"""The check of the web pages accepts good pages and finds every kind of error."""

from tests.programs.check_site import broken_links

GOOD = '<html><head><link rel="stylesheet" href="s.css"></head><body><h1 id="a">x</h1><a href="b.html#c">b</a>'


def site(folder, **pages):
    (folder / "s.css").write_text("body { color: black }")
    (folder / "b.html").write_text('<html><p id="c">c</p><a href="https://example.org">elsewhere</a></html>')
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text)
    return list(broken_links(folder))


def test_good_pages_pass(tmp_path):
    assert site(tmp_path, a=GOOD) == []


def test_every_kind_of_error_is_found(tmp_path):
    for bad in (
        '<a href="nowhere.html">',
        '<a href="b.html#nothing">',
        '<a href="#nothing">',
        '<img src="picture.png">',
        '<img src="s.css" srcset="s.css 1x, missing.png 2x">',
        '<script src="https://cdn.example.org/math.js"></script>',
        '<link rel="stylesheet" href="//fonts.example.org/f.css">',
    ):
        assert len(site(tmp_path, a=GOOD + bad)) == 1, bad
    (tmp_path / "a.html").write_text(GOOD)
    (tmp_path / "t.css").write_text("@font-face { src: url(https://fonts.example.org/f.woff) }")
    assert len(list(broken_links(tmp_path))) == 1


def test_a_folder_without_pages_is_an_error(tmp_path):
    assert len(list(broken_links(tmp_path))) == 1
