"""The refiners that have a name."""

# Name -> hub id. Both have about as many weights: 94 and 81 million.
REFINERS = {"sam": "facebook/sam-vit-base", "sam2": "facebook/sam2.1-hiera-base-plus"}
