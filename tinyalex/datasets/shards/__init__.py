"""The format of a prepared data set on disk.

prepared.py     `load`: opens a prepared set as a `Dataset`
manifest.py     manifest.json and the mean image
shards.py       one shard file: written, opened, read
jpeg.py         images as JPEG files in shards: encoded, decoded
shard_set.py    all shards of a split, read as an `ImageSet`
verify.py       checks a whole set, as `tinyalex verify` does
"""
