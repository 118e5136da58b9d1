"""Where the tests find what they read."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Real clips, and what the official programs say. Not part of the project: tests that need them are
# skipped where they are not there.
SHARED = ROOT.parent / "shared"
ORACLE = SHARED / "oracle"
DEV = SHARED / "data" / "dev"
