"""The names of the files in the folder of a run."""

# Results.
MASKS = "masks"
REFINED = "refined"
RUN_LENGTHS = "masks.json"
OVERLAY = "overlay.mp4"
REPORT = "result.json"
# In place of the report, when a run ended with an error.
INCOMPLETE = "incomplete.json"
# What a person gave: the masks of reference frames; names and colours of the objects.
REFERENCES = "references"
PROJECT = "project.json"
# A page for people about the run.
PAGE = "report.html"
# While a run is not finished: its settings, one line for each frame, its saved state, and the
# frames that stay of an earlier run.
MARKER = ".run.json"
FRAMES = ".frames.jsonl"
STATE = ".state"
KEPT = ".kept.jsonl"
