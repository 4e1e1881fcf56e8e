"""One encoded picture -> its numbers. Every way in which a picture can be bad has its sentence here."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from attnsearch.core.errors import DataError
from attnsearch.data.dataset import BadImage, Picture, Pixels

if TYPE_CHECKING:
    from PIL.Image import Image

# Raster formats that Pillow decodes in itself; without the list a file could ask for Ghostscript (EPS).
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
SUFFIXES = ("png", "jpg", "jpeg", "gif", "webp", "bmp", "tif", "tiff", "ppm", "pgm", "jp2", "avif")
# Rarer spellings of these, and what is not read but not ignored either.
OTHER_SUFFIXES = ("jpe", "jfif", "pbm", "pnm", "j2k", "jpx", "jpf", "dib", "apng")
FOREIGN = ("svg", "heic", "heif", "eps", "pdf", "psd", "jxl", "raw", "dng", "dcm")
# First bytes of formats that this Pillow may not read: place, bytes, name.
SIGNATURES = (
    (4, b"ftypheic", "HEIC"),
    (4, b"ftypheix", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"jP  \r\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (128, b"DICM", "DICOM"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL \r\n", "JPEG XL"),
    (0, b"8BPS", "PSD"),
    (0, b"%PDF", "PDF"),
    (0, b"II*\0", "this kind of TIFF"),
    (0, b"MM\0*", "this kind of TIFF"),
)
PNG_TEXT = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # chunks that are no pixels
# Raw modes of sixteen bits per colour, of which Pillow keeps the upper byte -> the mode that keeps the lower.
LOWER_BYTES = {"RGB;16B": "RGB;16L", "RGB;16L": "RGB;16B", "RGB;16N": "RGB;16B"}


def decode(path: str, data: bytes) -> NDArray[Any] | BadImage:
    """An encoded picture upright by its EXIF tag, first frame, transparent parts white.

    (H, W, 3) uint8, or the numbers as they are where they are wider: (H, W) grey, or (H, W, 3) uint16.
    """
    from PIL import UnidentifiedImageError

    try:
        # Pillow's warnings are of metadata, which is no part of the picture.
        with warnings.catch_warnings(action="ignore"), _open(data) as image:
            image.load()
            return _numbers(image, data)
    except UnidentifiedImageError:
        known = [name for at, mark, name in SIGNATURES if data[at:].startswith(mark)]
        if known:
            return BadImage(
                f"{path}: {known[0]} is not read by the installed Pillow; convert it, to PNG for instance"
            )
        return BadImage(f"not an image: {path}")
    except Exception as error:  # Pillow raises many kinds on broken bytes; all of them are the file's fault
        reason = str(error).removeprefix("image file is ") or type(error).__name__
        return BadImage(f"{path}: {reason}")


def size_of(picture: Picture) -> tuple[int, int] | None:
    """(H, W) by the header alone; None for a bad picture, which decoding will report."""
    if isinstance(picture, np.ndarray):
        return picture.shape[0], picture.shape[1]
    if isinstance(picture, BadImage):
        return None
    try:
        with warnings.catch_warnings(action="ignore"), _open(picture) as image:
            turned = image.getexif().get(0x0112, 1) >= 5  # orientations 5 to 8 lie on their side
            return image.size if turned else image.size[::-1]
    except Exception:  # Pillow raises many kinds on broken bytes
        return None


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that the installed Pillow knows."""
    from PIL import Image

    Image.init()
    return tuple(form for form in FORMATS if form in Image.OPEN)


def _open(data: bytes) -> Image:
    from PIL import Image

    try:
        return Image.open(io.BytesIO(data), formats=_formats())
    except ValueError as error:
        if "large" not in str(error):  # Pillow's limit on compressed text, which says nothing of the pixels
            raise
        return Image.open(io.BytesIO(_without_text(data)), formats=_formats())


def _without_text(png: bytes) -> bytes:
    """A PNG without its texts and colour profile; its chunks are length, name, content and checksum."""
    kept, at = [png[:8]], 8
    while at < len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] not in PNG_TEXT:
            kept.append(png[at:end])
        at = end
    return b"".join(kept)


def _numbers(image: Image, data: bytes) -> NDArray[Any]:
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return np.asarray(upright)
    if image.mode == "RGB" and (lower := _lower_bytes(data)):
        upper = np.asarray(upright).astype(np.uint16)
        return np.asarray(upper * 256 + np.asarray(ImageOps.exif_transpose(lower)))
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    return np.asarray(upright.convert("RGB"))


def _lower_bytes(data: bytes) -> Image | None:
    """The lower eight of sixteen bits per colour; None for pictures of eight.

    Pillow has no such mode and keeps the upper byte; read in the other byte order it keeps the lower one.
    """
    image: Any = _open(data)  # its tiles: what is to be read, and by which raw mode
    modes = {args if isinstance(args, str) else args[0] for _, _, _, args in image.tile if args}
    mode = modes.pop() if len(modes) == 1 else ""
    if mode not in LOWER_BYTES:
        return None
    other = LOWER_BYTES[mode]
    image.tile = [
        tile._replace(args=other if isinstance(tile.args, str) else (other, *tile.args[1:]))
        for tile in image.tile
    ]
    image.load()
    return cast("Image", image)


def as_channels(pixels: Pixels, channels: int) -> Pixels:
    """(H, W) or (H, W, C) -> (H, W, channels); grey is repeated."""
    shaped = pixels[..., None] if pixels.ndim == 2 else pixels
    return np.repeat(shaped, channels, axis=2) if shaped.shape[2] == 1 < channels else shaped


def fit(pixels: Pixels, height: int, width: int, resize: str = "crop") -> Pixels:
    """(H, W, C) -> (height, width, C), with anti-aliasing.

    Args:
        resize: of `core.choices.RESIZES`: `crop` takes the largest centred part of that shape, `stretch` changes the
            shape, `pad` keeps all of the picture and puts black beside it.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    from PIL import Image, ImageOps

    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    how, size = Image.Resampling.BILINEAR, (width, height)
    fitted = {
        "crop": lambda: ImageOps.fit(image, size, how),
        "stretch": lambda: image.resize(size, how),
        "pad": lambda: ImageOps.pad(image, size, how),
    }[resize]()
    return np.asarray(fitted).reshape(height, width, pixels.shape[2])


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
