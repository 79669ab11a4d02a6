"""The published MD5 sums of archives, for ``--verify-md5``."""

import hashlib

from tinyalex.datasets.download import MD5
from tinyalex.datasets.streams import copy_blocks
from tinyalex.errors import DataError

KNOWN = MD5 | {
    "ILSVRC2012_img_train.tar": "1d675b47d978889d74fa0da5fadfb00e",
    "ILSVRC2012_img_train_t3.tar": "ccaf1013018ac1037801578038d370da",
    "ILSVRC2012_img_val.tar": "29b22e2961454d5413ddabcf34fc5622",
    "ILSVRC2012_devkit_t12.tar.gz": "fa75699e90414af021442c21a62c3abf",
    "cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8",
    "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
    "tiny-imagenet-200.zip": "90528d7ca1a48142e341f4ef8d21d0de",
}


def verify(path, show):
    """Refuse an archive that is not one of the published ones, or not the one of its name.

    Raises
    ------
    DataError
        The message gives its sum and the known ones.
    """
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        copy_blocks(file.read, [digest.update], f"MD5 of {path.name}", path.stat().st_size)
    found = digest.hexdigest()
    name = next((name for name, known in KNOWN.items() if known == found), None)
    if name == path.name or name and path.name not in KNOWN:
        show(f"{path}: MD5 is that of {name}")
        return
    wanted = ", ".join(f"{known} {name}" for name, known in KNOWN.items())
    what = f"that of {name}" if name else "of no known archive"
    raise DataError(f"{path}: MD5 is {found}, {what}; download it again, or leave --verify-md5 out; known: {wanted}")
