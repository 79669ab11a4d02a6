"""From images to batches: which images, which crops, and how batches reach the devices.

augment.py      crops, reflections, colour noise and the mean: change this file to crop differently
sampling.py     which image comes when: each once, all classes equally often, or shard after shard
loader.py       the batches of an epoch, the views of a test pass, and the threads' work: reading and cropping
shuffle_buffer.py   reads shard after shard and keeps the images of later batches
batches.py      `training_batches` and `test_batches`: batches on the host or on the devices
background.py   threads that work ahead of the caller and deliver in order
"""
