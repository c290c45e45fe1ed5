"""One image file as a square of bytes: read, made RGB, scaled and cut exactly as torchvision does it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt

DECODER = 1
"""Raised whenever `read_square` gives other pixels for the same file."""

MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})
"""Of Pillow: images of eight bits a channel at most, which become RGB without a choice to make."""


class UnreadablePictureError(Exception):
    """A file that is no image, is damaged, or is of a kind that has no one RGB form."""


def read_square(file: Path, size: int) -> npt.NDArray[np.uint8]:
    """Returns the middle square of an image whose shorter side is scaled to `size`: uint8 [size, size, 3].

    Equal to torchvision's `pil_loader`, `Resize(size)` (bilinear, antialiased) and `CenterCrop(size)`. As there, orientation marks of
    cameras are not obeyed.

    Raises:
        UnreadablePictureError: with what is wrong with the file.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged camera data and the like: the pixels are all that counts
            with Image.open(file) as image:
                if image.mode not in MODES:
                    raise UnreadablePictureError(f"its pixels are of Pillow's mode {image.mode}, which has no one RGB form of 8 bits")
                picture = image.convert("RGB")
            width, height = picture.size
            if width <= height:
                picture = picture.resize((size, int(size * height / width)), Image.Resampling.BILINEAR)
            else:
                picture = picture.resize((int(size * width / height), size), Image.Resampling.BILINEAR)
            left, top = (round((side - size) / 2.0) for side in picture.size)
            return np.asarray(picture.crop((left, top, left + size, top + size)))
    except UnreadablePictureError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise UnreadablePictureError(f"{type(error).__name__}: {error}") from error
