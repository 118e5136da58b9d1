"""Which files of a folder are taken for videos, by their names."""

_KINDS = (
    "3gp asf avi flv gif h264 h265 hevc ivf m2ts m2v m4v mkv mov mp4 mpeg mpg mts mxf nut "
    "ogg ogv rm ts vob webm wmv y4m zip"
)
VIDEO_SUFFIXES = frozenset(f".{kind}" for kind in _KINDS.split())
