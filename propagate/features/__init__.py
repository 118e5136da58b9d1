"""Turns frames into grids of feature vectors with a frozen diffusion U-Net."""
