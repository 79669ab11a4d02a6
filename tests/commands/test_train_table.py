"""Training on images in one folder with a table of their labels, without preparing them."""

import numpy as np

from tests.commands.test_odd_names import SMALL
from tests.support import toy_imagenet
from tinyalex import cli
from tinyalex.runs import run_folder


def test_training_reads_a_labels_table_as_prepare_does(capsys, tmp_path):
    rng = np.random.default_rng(0)
    toy_imagenet.tree(tmp_path / "photos", {f"{k}.jpg": toy_imagenet.jpeg(rng, 24, 24) for k in range(21)})
    lines = "".join(f"photos/{k}.JPG;{('owl', 'jay')[k % 2]}\n" for k in range(20))
    toy_imagenet.tree(tmp_path / "photos", {"labels.csv": b"file;label\n" + lines.encode() + b"x.jpg;owl\n"})
    data = ["--data", str(tmp_path / "photos"), "--test-share", "0.2"]
    assert cli.main(["train", "shapes", *data, "--out", str(tmp_path / "run"), "--weak-signal", *SMALL]) == 0
    printed = capsys.readouterr().out
    assert (
        "labels.csv: the classes of 20 images, from the columns 'file' and 'label'; 1 line without an image" in printed
    )
    assert "16 training and 4 test images of 24 x 24, 2 classes" in printed
    assert run_folder.load(tmp_path / "run").classes == ["jay", "owl"]
