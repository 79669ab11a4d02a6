"""From image files in any layout to an `Index`: every image with its class and the file and bytes it is in.

`tinyalex prepare` and `tinyalex.datasets.load` both use it::

    sources.py      `index`, which runs the others
    listing.py      `Listing`: the files of one source, filled by folder.py and archives.py (unpack.py for packed ones,
                    links.py for links in them)
    layout.py       what the folders mean: groups of images with a split, in class folders or flat
    named.py        images whose names end with their class
    numbered.py     class folders named by numbers
    documents.py    lists of labels and of classes (labels.py reads them), tables of labels (tables.py), and the
                    devkit's table (devkit.py, matfile.py)
    contest.py      of which ILSVRC contest and split a file is, by its name; patches.py: images that replace others
    splits.py       which groups are training and which test images
    classes.py      the classes of the set, and the class of every labelled image
    subset.py       a test share, or a small part of the set
    cifar10.py      CIFAR-10's own files; md5.py: known sums of archives; entries.py: `Index` and `Entry`
"""
