"""Nets of PyTorch as oracles for what is imported: torchvision's, and small ones with the names of its AlexNet."""

import io
import tarfile
import warnings

import numpy as np
from PIL import Image

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
_OPERATORS = ("nms", "qnms")


def torchvision(torch):
    """Import torchvision, whose operators on boxes need not fit PyTorch: its nets use none of them.

    PyPI's torchvision was compiled for a GPU; with a PyTorch for the CPU its operators are missing when it is imported.
    """
    boxes = torch.library.Library("torchvision", "FRAGMENT")
    for name in _OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            boxes.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torchvision
    torchvision._boxes = boxes  # as long as they are needed
    return torchvision


def small_alexnet(torch, classes=5, maps=(8, 12, 12, 8, 8), hidden=16, seed=0):
    """Return a net like torchvision's AlexNet, with fewer maps and units, at 224 pixels; its weights are random."""
    nn = torch.nn
    torch.manual_seed(seed)
    a, b, c, d, e = maps

    class AlexNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(3, a, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
                nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
                nn.Conv2d(b, c, 3, padding=1), nn.ReLU(),
                nn.Conv2d(c, d, 3, padding=1), nn.ReLU(),
                nn.Conv2d(d, e, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
            )  # fmt: skip
            self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
            self.classifier = nn.Sequential(
                nn.Dropout(), nn.Linear(e * 36, hidden), nn.ReLU(),
                nn.Dropout(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, classes),
            )  # fmt: skip

        def forward(self, x):
            return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))

    net = AlexNet().eval()
    with torch.no_grad():  # He's deviations keep a signal that differs from image to image
        for parameter in net.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            parameter.normal_(0, (2 / fan_in) ** 0.5 if parameter.ndim > 1 else 0.1)
    return net


def logits(torch, net, pixels):
    """Return what a net of PyTorch computes for images (n, S, S, 3) of pixels from 0 to 255, as torchvision does."""
    x = ((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    with torch.no_grad():
        return net(torch.from_numpy(np.ascontiguousarray(x, np.float32))).numpy()


def noise(side=224, count=2, seed=0):
    """Return images (n, S, S, 3) of random pixels from 0 to 255."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3)).astype(np.float32)


def photographs(archive, side=224, count=4):
    """Return the central crops (n, S, S, 3) of the first photographs of a tar, pixels from 0 to 255."""
    images = []
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and len(images) < count:
                image = Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB")
                scale = 256 / 224 * side / min(image.size)
                image = image.resize([max(side, round(length * scale)) for length in image.size])
                left, top = ((length - side) // 2 for length in image.size)
                images.append(np.asarray(image.crop((left, top, left + side, top + side)), np.float32))
    return np.stack(images)
