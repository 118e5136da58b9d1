"""The studio: a page in the browser to label, follow, watch and correct, and its server."""
