"""Make the README's picture: four frames of the sample clip with the masks that `propagate` finds.

python samples/make_preview.py --out samples/clip/preview.jpg
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

import propagate

SAMPLE = Path(__file__).parent / "clip"
# Far from the browns and reds of the clip, and from each other.
COLOURS = {1: (0, 225, 255), 2: (255, 230, 0), 3: (120, 255, 60)}
CAPTIONS = {
    0: "frame 0: you give this mask",
    32: "frame 32: 1 passes in front of 2",
    54: "frame 54: 2 is whole again, 3 is gone",
    80: "frame 80: 3 has come back",
}
TINT = 0.4
OUTLINE_PX = 3
BADGE_RADIUS, CAPTION_HEIGHT, GAP = 18, 44, 8
FONT_SIZE = 21


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the README's picture.")
    parser.add_argument("--out", type=Path, required=True, help="the JPEG to write")
    out = parser.parse_args().out
    join(follow()).save(out, quality=88)


def follow() -> list[Image.Image]:
    """Follow the cups through the clip and draw the frames that have a caption."""
    session = propagate.Propagator(model="tiny").session()
    first = propagate.read_mask(SAMPLE / "first.png")
    panels = []
    with propagate.open_video(SAMPLE / "clip.mp4") as frames:
        for frame in frames:
            result = session.step(frame, first if frame.index == 0 else None)
            if frame.index in CAPTIONS:
                panels.append(draw(frame.image, result.mask, CAPTIONS[frame.index]))
            if frame.index == max(CAPTIONS):
                break
    return panels


def draw(image: np.ndarray, ids: np.ndarray, caption: str) -> Image.Image:
    """Draw tints, outlines and numbers on a frame, and its caption below.

    Args:
        image: (H, W, 3) uint8 RGB.
        ids: (H, W) uint8, 0 for background.
        caption: One line.
    """
    drawn = image.copy()
    present = [int(i) for i in np.unique(ids) if i]
    for object_id in present:
        mask = ids == object_id
        inner = ndimage.binary_erosion(mask, iterations=OUTLINE_PX, border_value=1)
        colour = np.array(COLOURS[object_id])
        drawn[mask] = image[mask] * (1 - TINT) + colour * TINT
        drawn[mask > inner] = colour
    height, width, _ = image.shape
    panel = Image.new("RGB", (width, height + CAPTION_HEIGHT), "white")
    panel.paste(Image.fromarray(drawn))
    brush = ImageDraw.Draw(panel)
    font = ImageFont.load_default(FONT_SIZE)
    for object_id in present:
        # The point deepest inside the object: its centre may be hidden by another one.
        depth = np.asarray(ndimage.distance_transform_edt(np.pad(ids == object_id, 1)))[1:-1, 1:-1]
        y, x = divmod(int(depth.argmax()), width)
        brush.circle((x, y), BADGE_RADIUS, fill=COLOURS[object_id], outline="black", width=2)
        brush.text((x, y), str(object_id), fill="black", font=font, anchor="mm")
    middle = (width // 2, height + CAPTION_HEIGHT // 2)
    brush.text(middle, caption, fill="black", font=font, anchor="mm")
    return panel


def join(panels: list[Image.Image]) -> Image.Image:
    """Put panels of one size side by side, white between them."""
    width, height = panels[0].size
    joined = Image.new("RGB", (len(panels) * (width + GAP) - GAP, height), "white")
    for index, panel in enumerate(panels):
        joined.paste(panel, (index * (width + GAP), 0))
    return joined


if __name__ == "__main__":
    main()
