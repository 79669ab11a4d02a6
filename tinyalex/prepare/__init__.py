"""`tinyalex prepare`: from the images that `tinyalex.datasets.index` finds to the shards of a prepared set.

pipeline.py     the whole preparation, once there is an index
plan.py         which image goes to which shard; whether a folder can be continued
shard.py        one worker's job: one shard
workers.py      the worker processes
records.py      what a worker found out about its shard, for the manifest
complete.py     puts the records together and writes the manifest
progress.py, sheet.py   progress lines; the contact sheet
"""
