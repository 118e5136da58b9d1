"""Refining: masks sharpened by SAM or SAM 2."""
