"""One encoded picture -> RGB pixels. Every way in which a picture can be bad has its sentence here."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from attnsearch.core.errors import DataError
from attnsearch.data.dataset import BadImage, Picture, Pixels

if TYPE_CHECKING:
    from PIL.Image import Image

# Raster formats that Pillow decodes in itself; without the list a file could ask for Ghostscript (EPS).
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM")
SUFFIXES = ("png", "jpg", "jpeg", "gif", "webp", "bmp", "tif", "tiff", "ppm", "pgm")
# Not read, not ignored.
FOREIGN = ("svg", "heic", "heif", "avif", "eps", "pdf", "psd", "jp2", "jxl", "raw", "dng", "dcm")


def decode(path: str, data: bytes) -> Pixels | BadImage:
    """An encoded picture as (H, W, 3) uint8: upright by its EXIF tag, first frame, transparent parts white.

    More than eight bits per channel are scaled, not clipped.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()
            return _rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        return BadImage(f"not an image: {path}")
    except Exception as error:  # Pillow raises many kinds on broken bytes; all of them are the file's fault
        reason = str(error).removeprefix("image file is ") or type(error).__name__
        return BadImage(f"{path}: {reason}")


def size_of(picture: Picture) -> tuple[int, int] | None:
    """(H, W) by the header alone; None for a bad picture, which decoding will report."""
    from PIL import Image

    if isinstance(picture, np.ndarray):
        return picture.shape[0], picture.shape[1]
    if isinstance(picture, BadImage):
        return None
    try:
        with Image.open(io.BytesIO(picture), formats=FORMATS) as image:
            turned = image.getexif().get(0x0112, 1) >= 5  # orientations 5 to 8 lie on their side
            return image.size if turned else image.size[::-1]
    except Exception:  # Pillow raises many kinds on broken bytes
        return None


def fit(pixels: Pixels, height: int, width: int) -> Pixels:
    """(H, W, C) -> (height, width, C): the largest centred part of that shape, resized with anti-aliasing."""
    if pixels.shape[:2] == (height, width):
        return pixels
    from PIL import Image, ImageOps

    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    fitted = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(fitted).reshape(height, width, pixels.shape[2])


def _rgb(image: Image) -> Pixels:
    from PIL import Image

    if image.mode == "F" or image.mode.startswith("I"):
        top = 65_535 if image.mode.startswith("I;16") else None
        grey = scale_to_bytes(np.asarray(image), top=top)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def scale_to_bytes(
    values: NDArray[np.generic], *, top: int | None = None, bounds: tuple[float, float] | None = None
) -> Pixels:
    """Numbers of any kind -> 0..255, none of them clipped.

    Without `top`, white is the smallest of 1 (not for integers), 255 and 65535 that holds them all; negative
    or larger numbers are stretched from their least to their greatest.

    Args:
        bounds: least and greatest of a whole set, which its parts have to share; None takes this array's own.

    Raises:
        ValueError: NaN or infinity.
    """
    numbers = np.asarray(values, np.float64)
    low, high = bounds or (float(numbers.min()), float(numbers.max()))
    if not np.isfinite([low, high]).all():
        raise ValueError("holds NaN or infinity")
    whites = (255, 65_535) if np.issubdtype(values.dtype, np.integer) else (1, 255, 65_535)
    fitting = [white for white in whites if low >= 0 and high <= white]
    if top is None and not fitting:
        return np.rint((numbers - low) * (255 / (high - low))).astype(np.uint8)
    scaled: Pixels = np.rint(numbers * (255 / (top or fitting[0]))).astype(np.uint8)
    return scaled


def raise_bad(bad: Iterable[str], images: int) -> None:
    """One error for all bad pictures of a set; returns where there are none.

    Raises:
        DataError: up to five of them by name, and how many of how many.
    """
    sentences = list(bad)
    if not sentences:
        return
    more = [f"and {len(sentences) - 5:,} more"] if len(sentences) > 5 else []
    files = "file" if len(sentences) == 1 else "files"
    count = f"{len(sentences):,} bad {files} of {images:,}; leave them out with --on-bad-image skip"
    raise DataError("\n  ".join(sentences[:5] + more) + f"; {count}")
