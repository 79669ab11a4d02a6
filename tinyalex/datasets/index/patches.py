"""ILSVRC-2010's patch_images.tar: images that replace those of the same name, which are blank in the archives.

patch_images/train/n01440764_18.JPEG, patch_images/val/ILSVRC2010_val_00000001.JPEG, patch_images/test/...
"""

from pathlib import Path

from tinyalex.words import counted

_FOLDER = "patch_images"


def apply(listings, show):
    """Take the images of a folder or an archive called ``patch_images`` in place of those with their names.

    Parameters
    ----------
    listings : list of Listing
        Of all sources; the folder is removed from its own.
    show : callable
        Called with a line of text about what was replaced.
    """
    patches = {}
    for listing in listings:
        for folder in [folder for folder in listing.images if _FOLDER in map(str.lower, folder)]:
            patches |= {image.name: (listing, folder, image) for image in listing.images.pop(folder)}
            listing.folders.pop(folder, None)
    if not patches:
        return
    replaced = set()
    for listing in listings:
        for images in listing.images.values():
            for k, image in enumerate(images):
                if image.name in patches:
                    images[k] = patches[image.name][2]
                    replaced.add(image.name)
    for name in sorted(patches.keys() - replaced):
        listing, folder, _ = patches[name]
        listing.skipped.add("/".join((*folder, name)), "a patch of an image that is not there")
    listing, *_ = next(iter(patches.values()))
    where = listing.source if _FOLDER in Path(listing.source).name.lower() else f"{listing.source}: {_FOLDER}"
    show(f"{where}: took the place of {counted(len(replaced), 'image')} of the same name")
