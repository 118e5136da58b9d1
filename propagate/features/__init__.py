"""Features: from frames to a grid of feature vectors, by a frozen diffusion U-Net."""
