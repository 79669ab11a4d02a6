"""The report of a run: balanced HTML that needs no network, with the numbers of the log and of a plain count."""

import base64
import html.parser
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.small_runs import NET, after, quiet, small, stripes
from tinyalex.cli import main
from tinyalex.datasets import Dataset, ImageSet
from tinyalex.datasets.dataset import ImageNames
from tinyalex.errors import StorageError
from tinyalex.recipes import recipe
from tinyalex.report import elements, pages, progress, results
from tinyalex.runs import checkpoint, run_folder
from tinyalex.runs.train import train
from tinyalex.system import ownership
from tinyalex.training import evaluation, loop

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
NASTY = ['<b>&"x"', "</style><script>alert(1)</script>"]


class Page(html.parser.HTMLParser):
    """A parsed page: checks that tags are balanced, collects texts, attributes and the tables' cells."""

    def __init__(self, content):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.texts, self.ids = [], [], [], [], []
        text = content.decode("utf-8")
        assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, (tag, self.open[-3:])

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def assert_self_contained(self):
        assert "script" not in self.tags and not any(name.startswith("on") for _, name, _ in self.attributes)
        for tag, name, value in self.attributes:
            if name in ("src", "href", "action", "data", "poster", "srcset"):
                own = value.startswith("#") and value[1:] in self.ids
                assert own or (tag == "img" and value.startswith("data:image/")), (tag, name, value[:80])
            elif "url(" in (value or ""):
                assert re.findall(r"url\(([^)]*)\)", value) == [
                    f"#{each}" for each in re.findall(r"url\(#([^)]*)\)", value)
                ]
        assert len(set(self.ids)) == len(self.ids)


def two(names=("upright", "level")):
    """`stripes` under other names of classes."""
    made = stripes()
    return Dataset("stripes", list(names), made.train, made.test)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two epochs, and its data set, whose classes have names full of markup."""
    folder = tmp_path_factory.mktemp("report") / "run"
    dataset = two(NASTY)
    train(small(epochs=2), dataset, folder, show=quiet)
    return folder, dataset


def whole(run):
    folder, dataset = run
    content, missing = pages.page([folder], pages.Contents(run_folder.load(folder), dataset))
    assert missing == {}
    return content


@pytest.fixture(scope="module")
def content(run):
    """The run's whole page."""
    return whole(run)


def test_the_page_is_balanced_self_contained_and_escapes_names(content):
    page = Page(content)
    page.assert_self_contained()
    assert "b" in page.tags and b"<b>&" not in content  # the facts are bold, the name is not
    for name in NASTY:
        assert name in page.text
    titles = ["Where it stands", "Learning curves", "Errors by class", "Worst mistakes", "Test images",
              "What the net looks at", "Nearest training images", "The first layer's kernels", "Dead units",
              "Time and memory", "Configuration", "How to go on"]  # fmt: skip
    links = [value for tag, name, value in page.attributes if tag == "a" and name == "href"]
    assert len(links) == len(titles) and all(title in page.text for title in titles)
    assert "http" not in re.sub(r"http-equiv", "", re.sub(r"base64,[\w+/=]*", "", content.decode()))
    assert len(re.findall(r"prefers-color-scheme: dark", content.decode())) == 1
    assert ("meta", "name", "viewport") in page.attributes and "refresh" not in [v for _, _, v in page.attributes]
    assert "top-5" not in page.text  # of two classes


@pytest.mark.parametrize("planted", ["</div>", "<p>", '<img src="http://example.org/x.png">', "<script>x</script>"])
def test_the_checks_notice_planted_markup(content, planted):
    with pytest.raises(AssertionError):
        Page(content.replace(b"<main>", b"<main>" + planted.encode())).assert_self_contained()


def test_a_page_that_does_not_escape_is_noticed(run, monkeypatch):
    monkeypatch.setattr(elements, "text", lambda made: html.unescape(text(made)))
    monkeypatch.setattr(pages, "text", lambda made: html.unescape(text(made)))
    with pytest.raises(AssertionError):
        test_the_page_is_balanced_self_contained_and_escapes_names(whole(run))


text = elements.text


def test_every_picture_can_be_opened(content):
    found = re.findall(rb'data:image/(png|jpeg);base64,([\w+/=]+)"', content)
    kinds = {Image.open(io.BytesIO(base64.b64decode(data))).format for _, data in found}
    assert len(found) > 30 and kinds <= {"PNG", "JPEG"}


def test_the_numbers_are_those_of_the_log(run, content):
    folder, _ = run
    page = Page(content)
    records = run_folder.read_log(folder)
    for record in records:
        if record["event"] in ("epoch", "test"):
            assert f"{100 * record['top1_error']:.2f} %" in page.text and f"{record['loss']:.4f}" in page.text
    last = [record for record in records if record["event"] == "test"][-1]
    assert f"Tested on {last['count']} images after epoch {last['epoch']:g}" in page.text
    assert f"test error {100 * last['top1_error']:.2f} % on 40 test images" in page.text
    for name, share in last["dead_relu"].items():
        assert f"{name} {share:.1%}" in page.text


def test_the_matrix_and_the_mistakes_are_those_of_a_plain_count(run):
    folder, dataset = run
    loaded = run_folder.load(folder)
    p = evaluation.probabilities(loaded.network, dataset.test, loaded.mean, loaded.recipe)
    counts = [[0, 0], [0, 0]]
    for row, label in zip(p, dataset.test.labels, strict=True):
        counts[label][int(row[1] > row[0])] += 1
    tested = results.Tested.compute(loaded, dataset, 1000)
    cells = [td.text or "" for td in results.by_class(tested).iter("td")][:4]
    assert [int(cell or 0) for cell in cells] == [n for row in counts for n in row]
    wrong = counts[0][1] + counts[1][0]
    cards = [figure for figure in results.mistakes(tested, []).iter("figure")]
    assert len(cards) == min(results.MISTAKES, wrong)


def predicted_by(probabilities, labels, words):
    """`Tested` with these predictions, on small noise images."""
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 8, 8, 3), np.uint8)

    class Run:
        mean = np.zeros((8, 8, 3), "float32")
        metadata = {"step": 1}

    Run.words = words
    Run.recipe = small("net.input=8")
    names = [f"{words[label]}/{k}.jpg" for k, label in enumerate(labels)]
    return results.Tested(Run, ImageSet(images, np.asarray(labels)), len(labels), np.asarray(probabilities), names)


@pytest.mark.parametrize("classes", [3, 16, 17, 120])
def test_errors_by_class_for_any_number_of_classes(classes):
    rng = np.random.default_rng(classes)
    labels = np.repeat(np.arange(classes), 4)
    p = rng.random((len(labels), classes)) ** 9 + 1e-9
    p[np.arange(len(labels)), labels] += 0.4
    p /= p.sum(axis=1, keepdims=True)
    names = [f"class {i}, also <{i}>" for i in range(classes)]
    tested = predicted_by(p, labels, names)
    section = results.by_class(tested)
    page = " ".join(section.itertext())
    assert ("top-5 error" in page) == (classes > 5) and ", also" not in page
    errors = [(p[labels == i].argmax(axis=1) != i).mean() for i in range(classes)]
    for i in sorted(range(classes), key=lambda i: -errors[i])[:3]:
        assert f"class {i}" in page
    rows = [[("".join(cell.itertext())) for cell in row.iter("td")] for row in section.iter("tr")]
    found = {row[0]: row[2] for row in rows if len(row) >= 4 and "%" in row[2]}
    assert found == {f"class {i}": f"{100 * errors[i]:.2f} %" for i in range(classes)}
    pictures = [image for image in section.iter("img")]
    assert len(pictures) == (classes > results.TABLE)
    if pictures:
        data = base64.b64decode(pictures[0].get("src").partition(",")[2])
        pixels = np.asarray(Image.open(io.BytesIO(data)))
        times = len(pixels) // classes
        alpha = pixels[times // 2 :: times, times // 2 :: times, 3] / 255
        rates = np.zeros((classes, classes))
        np.add.at(rates, (labels, p.argmax(axis=1)), 0.25)
        np.testing.assert_allclose(alpha**2, rates, atol=0.01)


def test_worst_mistakes_are_the_surest_ones():
    labels = np.array([0, 1, 2, 0, 1, 2])
    p = np.array([[0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.5, 0.3, 0.2], [0.0, 0.05, 0.95], [np.nan] * 3, [0, 0, 1.0]])
    section = results.mistakes(predicted_by(p, labels, ["a", "b", "c"]), ["--run", "my run"])
    shown = ["".join(figure.itertext()) for figure in section.iter("figure")]
    assert [each.rpartition(" ")[2][-7:] for each in shown] == ["a/3.jpg", "a/0.jpg", "c/2.jpg"]
    assert "".join(section.find("pre").itertext()) == "tinyalex explain a/3.jpg --run 'my run'"
    assert [each[0] for each in shown] == ["a", "a", "c"]  # images 3, 0 and 2: 95, 80 and 50 %
    assert [re.findall(r"(\d+)% [abc]", each)[0] for each in shown] == ["95", "80", "50"]
    none = results.mistakes(predicted_by(p[[1, 5]], labels[[1, 5]], ["a", "b", "c"]), [])
    assert "There is no wrong prediction" in "".join(none.itertext())


def test_a_mistake_keeps_its_name_where_only_some_images_are_looked_at():
    """Of an ImageSet whose pixels hold each image's number, the names belong to the pixels."""
    images = np.arange(60, dtype=np.uint8)[:, None, None, None] * np.ones((1, 24, 24, 3), np.uint8)
    labels = np.arange(60) % 2
    names = ImageNames([f"{k}.png" for k in range(60)], {})
    both = Dataset("numbers", ["even", "odd"], *[ImageSet(images, labels)] * 2, listed=names)
    training = loop.Training(small(), both)

    class Run:
        network, recipe, mean = training.network, training.recipe, both.mean

    tested = results.Tested.compute(Run, both, 20)
    assert len(tested.names) == 20 and tested.whole == 60
    pixels = tested.images.read(np.arange(20))[:, 0, 0, 0]
    assert [int(name.removesuffix(".png")) for name in tested.names] == pixels.tolist()


def test_the_page_says_which_checkpoint_it_is_about(run, tmp_path, capsys):
    """The page and its commands take the best checkpoint unless --last is given, as predict and explain do."""
    folder, dataset = run
    copied = tmp_path / "run"
    shutil.copytree(folder, copied)
    best, last = checkpoint.best(copied), checkpoint.newest(copied)
    if best == last:  # let the last one be worse
        for path, metadata in checkpoint.by_step(copied):
            if path == last:
                tensors, _ = checkpoint.read(path)
                metadata["errors"][-1] = 0.99
                path.unlink()
                checkpoint.write(path, tensors, metadata)
    best = checkpoint.best(copied)
    assert best != last
    test = ImageSet(dataset.test.images, 1 - dataset.test.labels)  # so that there are mistakes
    dataset = Dataset(dataset.name, dataset.classes, dataset.train, test)
    for loaded, words, option in (
        (run_folder.load(copied, best=True), f"{best.name}, which had the lowest test error", ""),
        (
            run_folder.load(copied),
            f"{last.name}, the last one (predict, explain and export take {best.name}",
            " --last",
        ),
    ):
        page = Page(pages.page([copied], pages.Contents(loaded, dataset))[0])
        assert f"Computed for this page, with {words}" in page.text
        found = re.search(r"tinyalex explain test/\d{5} --run (\S+run\S*)( --last)?", page.text)
        assert found[1] == str(copied) and (found[2] or "") == option
        step = loaded.metadata["step"]
        (record,) = [each for each in run_folder.read_log(copied) if each["event"] == "test" and each["step"] == step]
        tiles = page.text.partition("epoch of these numbers")[0]
        assert f"{record['loss']:.4f}" in tiles and f"{record['epoch']:g}" in tiles.split()[-1:]
        evaluate = f"tinyalex evaluate {copied} --best --classes" if not option else f"evaluate {copied} --classes"
        assert evaluate in page.text and f"--run {copied}{option} " in page.text.partition("IMAGE")[2]


def test_a_run_with_weighted_classes_is_judged_by_their_mean_error():
    """The lowest top-1 error was after epoch 1, the lowest mean error of the classes after epoch 2."""
    errors = [(0.02, 0.5), (0.05, 0.25), (0.04, 0.3)]
    records = [
        {"event": "test", "step": k, "epoch": float(k), "time": 9e8, "count": 40, "loss": 1.0, "top1_error": top1,
         "mean_class_error": mean} for k, (top1, mean) in enumerate(errors, start=1)
    ]  # fmt: skip
    for switch, lowest in (("balanced", "mean error of the classes was 25.00 %, after epoch 2."),
                           ("none", "test error was 2.00 %, after epoch 1.")):  # fmt: skip
        made = progress.LoggedRun(Path("run"), small(f"learning.class_weights={switch}"), records)
        shown = " ".join(progress.overview(made, None).itertext())
        assert f"The lowest {lowest}" in shown and "30.00 %mean of the classes" in shown.replace(" mean", "mean")
        assert ("mean of the classes, epoch 2" in "".join(progress.comparison([made, made]).itertext())) == (
            switch == "balanced"
        )


NETS = {  # recipe, settings, devices
    "locally connected": ("cifar10-11pct", ["net.maps=[4, 4, 4, 4]"], ("cpu",)),
    "tanh": ("cifar10-tanh", ["net.maps=[4, 4, 4]"], ("fake:0",)),
    "two devices": ("shapes", [f"net.{k}={json.dumps(v)}" for k, v in NET.items()], ("fake:0", "fake:1")),
}


@pytest.mark.parametrize("name", NETS)
def test_any_net_on_any_device_gives_a_whole_page(tmp_path, name):
    base, settings, devices = NETS[name]
    common = ["net.input=20", "net.classes=0", "learning.batch=16", "learning.epochs=1", "data.set=memory"]
    training = loop.Training(recipe.load(base, [*settings, *common]), stripes(), devices)
    run_folder.save(training, tmp_path)
    loaded = run_folder.load(tmp_path, devices)
    content, missing = pages.page([tmp_path], pages.Contents(loaded, stripes(), among=40))
    Page(content).assert_self_contained()
    assert missing == {} and "What the net looks at" in Page(content).text


# While a run trains.


def test_the_page_is_written_as_the_run_goes(tmp_path, monkeypatch):
    seen = []
    write = pages.Progress(quiet, "tinyalex train again", share=1e9)

    def observed(folder):
        write(folder)
        seen.append(Page((folder / run_folder.REPORT).read_bytes()))

    train(small(), two(), tmp_path / "run", show=quiet, after_epoch=observed)
    assert [re.search(r"(\d) of 3 epochs", page.text)[1] for page in seen] == ["0", "1", "2", "3"]
    for page in seen:
        page.assert_self_contained()
        assert ("meta", "http-equiv", "refresh") in page.attributes
    assert "No epoch has been tested yet" in seen[0].text and "tinyalex train again" in seen[0].text
    assert ["Learning curves" in page.text for page in seen] == [False, True, True, True]
    log = run_folder.read_log(tmp_path / "run")
    tests = [record for record in log if record["event"] == "test"]
    for page, record in zip(seen[1:], tests, strict=True):
        assert f"{100 * record['top1_error']:.2f} % test error" in page.text
    write(tmp_path)  # another stage begins: the one before it has ended
    page = Page((tmp_path / "run" / run_folder.REPORT).read_bytes())
    assert ("meta", "http-equiv", "refresh") not in page.attributes and "Stopped" not in page.text
    write(tmp_path / "run")
    write.stopped("interrupted; to resume: tinyalex train again")
    page = Page((tmp_path / "run" / run_folder.REPORT).read_bytes())
    assert ("meta", "http-equiv", "refresh") not in page.attributes and "Stopped: interrupted; to resume" in page.text


def test_writing_takes_a_small_share_of_the_time(tmp_path, monkeypatch):
    now, written = [0.0], []

    def page(*_):
        written.append(now[0])
        now[0] += 1.0
        return b"", {}

    monkeypatch.setattr(pages.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(pages, "page", page)
    write = pages.Progress(quiet, "again", share=0.1)
    for _ in range(100):  # epochs of a second each
        write(tmp_path)
        now[0] += 1.0
    assert 100 < now[0] < 112 and len(written) == 10
    write.stopped("a reason")
    assert len(written) == 11


def test_failing_to_write_the_page_ends_no_run(tmp_path, monkeypatch):
    lines = []

    def put(run):
        (tmp_path / "run" / run_folder.REPORT).unlink()
        (tmp_path / "run" / run_folder.REPORT).write_text("mine")

    after(monkeypatch, 3, put)
    write = pages.Progress(lines.append, "again", share=1e9)
    train(small(epochs=2), two(), tmp_path / "run", show=quiet, after_epoch=write)
    assert (tmp_path / "run" / run_folder.REPORT).read_text() == "mine"
    assert len(lines) == 1 and "was changed after tinyalex wrote it" in lines[0] and "training continues" in lines[0]
    monkeypatch.setattr(pages, "page", lambda *_: 1 / 0)
    assert write.finished(tmp_path / "run", two(), quiet) == "ZeroDivisionError: division by zero"


def test_other_errors_of_a_run_are_written_too(tmp_path, monkeypatch):
    write = pages.Progress(quiet, "again")
    write.stopped("nothing has begun")
    write(tmp_path)
    monkeypatch.setattr(progress, "units", lambda run: 1 / 0)
    write.stopped("a reason <b>")
    page = Page((tmp_path / run_folder.REPORT).read_bytes())
    assert "Stopped: a reason <b>" in page.text and "Not shown: ZeroDivisionError" in page.text


def test_logs_with_numbers_that_are_not_finite_and_with_damaged_records(tmp_path):
    lines = [
        {"event": "epoch", "time": 10.0, "epoch": 1.0, "step": 8, "rate": 0.1, "loss": None, "top1_error": 0.9},
        {"event": "test", "time": 12.0, "epoch": 1.0, "step": 8, "count": 9, "loss": None, "top1_error": 0.8},
        {"event": "diverged", "time": 13.0, "epoch": 1.1, "step": 9, "what": "conv1: numbers <are> no longer finite"},
        {"event": "test", "step": 300},
        {"event": "epoch", "epoch": "x", "step": 300},
        {"event": "train", "epoch": None, "step": 301},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "{")
    content, missing = pages.page([tmp_path])
    page = Page(content)
    assert missing == {} and "80.00 % test error not a number test loss" in page.text
    assert "Numbers stopped being finite at step 9: conv1: numbers <are> no longer finite" in page.text


# The command.


@pytest.fixture
def copied(run, tmp_path):
    """The run's folder copied, with its recipe's data in a folder beside it."""
    folder, _ = run
    shutil.copytree(folder, tmp_path / "run")
    return tmp_path / "run"


def test_data_that_have_moved_are_asked_for(copied, capsys):
    assert main(["report", str(copied)]) == 0
    output = capsys.readouterr()
    assert "add --data" in output.err and f"{copied / 'report.html'}: " in output.out
    page = Page((copied / "report.html").read_bytes())
    page.assert_self_contained()
    assert "add --data" in page.text and "Errors by class" not in page.text and "Learning curves" in page.text
    assert "The first layer's kernels" in page.text


def test_a_run_without_a_checkpoint_shows_its_log(copied, capsys):
    for path in copied.glob("checkpoint-*"):
        path.unlink()
    assert main(["report", str(copied)]) == 0
    assert "has no checkpoint yet" in Page((copied / "report.html").read_bytes()).text
    (copied / "recipe.toml").write_text("nonsense")
    assert main(["report", str(copied)]) == 0
    assert "no recipe that can be read" in Page((copied / "report.html").read_bytes()).text


def test_several_runs_are_drawn_together(copied, tmp_path, capsys):
    other = tmp_path / "other <run>"
    shutil.copytree(copied, other)
    changed = (other / "recipe.toml").read_text().replace("rate = 0.03", "rate = 0.01")
    (other / "recipe.toml").write_text(changed)
    lines = [json.loads(line) for line in (other / "log.jsonl").read_text().splitlines()]
    for record in lines:
        if record["event"] == "test":
            record["top1_error"] = 0.125
    (other / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in lines))
    out = tmp_path / "both.html"
    assert main(["report", str(copied), str(other), str(copied), "--out", str(out)]) == 0
    page = Page(out.read_bytes())
    page.assert_self_contained()
    assert (
        "other <run>" in page.text and "12.50 % (epoch 1)" in page.text and "learning.rate 0.03 0.01 0.03" in page.text
    )
    assert not (copied / "report.html").exists()
    before = out.read_bytes()
    assert main(["report", str(copied), "--out", str(out)]) == 0 and out.read_bytes() != before  # its own
    out.write_bytes(before.replace(b"12.50", b"02.50"))
    assert main(["report", str(copied), "--out", str(out)]) == 7
    assert "is not one that this command made" in capsys.readouterr().err


def test_a_page_of_somebody_else_is_not_replaced(copied, capsys):
    (copied / "report.html").write_text("mine")
    assert main(["report", str(copied)]) == 7
    assert "report.html: exists and was not made by tinyalex" in capsys.readouterr().err
    with pytest.raises(StorageError):
        run_folder.check_files(copied, (), [run_folder.REPORT])
    assert (copied / "report.html").read_text() == "mine"


def test_a_page_is_recognised_in_a_run_that_was_copied_without_its_marker(copied):
    assert main(["report", str(copied)]) == 0
    (copied / ownership.MARKER).unlink()
    run_folder.check_files(copied, (), [run_folder.REPORT])
    assert ownership.is_ours(copied / "report.html")
    (copied / ownership.MARKER).unlink()
    page = (copied / "report.html").read_bytes()
    for changed in (
        page.replace(b"Where it stands", b"Where it lies"),
        page + b" ",
        page[:-9],
        b"",
        b"<!-- tinyalex -->",
    ):
        (copied / "report.html").write_bytes(changed)
        assert not ownership.is_page(copied / "report.html")
    with pytest.raises(StorageError):
        run_folder.check_files(copied, (), [run_folder.REPORT])


@pytest.mark.parametrize("words, code, message", [
    (["nowhere"], 4, "nowhere: no such run; give "),
    (["."], 4, ".: holds no run; give "),
    (["RUN", "--out", "page.txt"], 2, "give a name that ends in .html"),
    (["RUN", "--test-images", "0"], 2, "--test-images 0: give 1 or more"),
    (["RUN", "--among", "0"], 2, "--among 0: give 1 or more"),
])  # fmt: skip
def test_wrong_arguments(copied, tmp_path, monkeypatch, capsys, words, code, message):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *(str(copied) if word == "RUN" else word for word in words)]) == code
    assert message in capsys.readouterr().err


def test_train_writes_the_report_and_it_is_the_runs_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tinyalex.commands.train.load_dataset", lambda *_: two())
    file = tmp_path / "recipe.toml"
    file.write_text(recipe.to_toml(small(epochs=1)))
    command = ["train", str(file), "--out", str(tmp_path / "run"), "--weak-signal"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert f"report: {tmp_path / 'run' / 'report.html'}" in out
    page = Page((tmp_path / "run" / "report.html").read_bytes())
    assert "Worst mistakes" in page.text and ("meta", "http-equiv", "refresh") not in page.attributes
    assert main([*command[:-1], "--weak-signal", "--epochs", "2", "--change"]) == 0  # replaces its own page
    (tmp_path / "run" / "report.html").write_text("mine")
    assert main([*command, "--epochs", "3", "--change"]) == 7
    assert "was changed after tinyalex wrote it" in capsys.readouterr().err


# Elements.


def test_characters_that_break_lines_or_change_direction_are_shown():
    made = elements.text(elements.element("p", "a\x00b\x1b\u202ec\udce9", title="x\ny"))
    made.encode()
    assert "\x00" not in made and "\\x00" in made and "\u202e" not in made and "\n" not in made


def test_durations():
    assert [progress.duration(seconds) for seconds in (0, 59, 60, 3599, 3600, 86400)] == [
        "0 s", "59 s", "1 min", "1 h 0 min", "1 h 0 min", "1 d 0 h",
    ]  # fmt: skip
