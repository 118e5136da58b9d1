"""A first mask from little: boxes, clicks, strokes and polygons on one frame."""
