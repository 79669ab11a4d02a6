"""What a net looks at: the gradient of the image, covered patches, and the pixels that a unit sees.

- `receptive_field`: which pixels a unit depends on, from the windows of the layers.
- `saliency`: a class's score differentiated with respect to the image.
- `occlusion`: parts of the image are covered, and its class is predicted again.
- `strongest`: the units that an image excites most, and the images that excite each map most.
- `deconvolution`: the output of such a unit, carried back to the image.
- `crop`: the part of a picture that the net reads.

All take a built `Network` of any recipe, on any device, in float32 or float64, and images as `Network.predict` takes
them. None changes the network.
"""
