"""Many videos: a table of work, a schedule, workers on this machine or on a cluster."""
