"""Images of questions: find them in a record, check them without decoding them, and open them with Pillow.

An image is a file named in the record, relative to the question file, or what a hub dataset gives: bytes, or an image
that it has decoded. Its identity is the sha256 of its bytes, so that keys of results change with the picture.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlcircuits.common.errors import RLCircuitsError, one_line, truncated_repr
from rlcircuits.common.input_files import read_file
from rlcircuits.common.json_files import json_type_name

__all__ = ["FORMATS", "MARK", "MOST_BYTES", "MOST_IMAGES", "MOST_PIXELS", "QuestionImage", "read_images"]

MARK = "<image>"
"""What a question's text has where an image stands, if it says so."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""The formats that are opened, by Pillow's names."""
MOST_PIXELS = 2**26
"""Most pixels of an image: 8,192 by 8,192."""
MOST_BYTES = 2**26
"""Most bytes of an image's file: 64 MiB."""
MOST_IMAGES = 16
"""Most images of a question."""


@dataclass(frozen=True)
class QuestionImage:
    """An image of a question. Two are equal if their bytes are."""

    sha256: str
    """Hex sha256 of the file's bytes."""
    place: str = field(compare=False)
    """Where it is from, for error messages: the question's line and the field."""
    file: Path | None = field(default=None, compare=False)
    """The file, which is read again when the image is opened; None if ``data`` has the bytes."""
    data: bytes | None = field(default=None, compare=False, repr=False)

    def open(self) -> Any:
        """Return the image, decoded, turned as its EXIF says, in RGB, as ``PIL.Image.Image``.

        Raises:
            RLCircuitsError: the file is gone or has changed since the questions were read, or cannot be decoded.
        """
        data = self.data
        if data is None:
            assert self.file is not None, "an image has a file or bytes"
            data = read_file(self.file, "an image")
            if hashlib.sha256(data).hexdigest() != self.sha256:
                raise RLCircuitsError(f"{self.place}: {self.file} has changed since the questions were read")
        try:
            with _pillow(self.place).open(io.BytesIO(data), formats=FORMATS) as opened:
                # Cameras store a picture as the sensor saw it, and beside it how it is to be turned.
                return importlib.import_module("PIL.ImageOps").exif_transpose(opened).convert("RGB")
        except Exception as error:  # Pillow raises errors of many classes for a damaged file
            name = self.file or "the image"
            raise RLCircuitsError(f"{self.place}: {name} cannot be decoded: {one_line(error)}") from error


def read_images(record: Mapping[str, Any], name: str, place: str, folder: Path | None) -> tuple[QuestionImage, ...]:
    """Return the images of a record; none if the field is missing or empty.

    Args:
        record: the record of the question.
        name: the field with its images: one image or a list of them. An image is a path, an object with ``bytes`` or
            ``path``, as ``datasets`` gives it, or a decoded image.
        place: where the record is, for error messages.
        folder: the folder that relative paths start from; None if the record is from no file.

    Raises:
        RLCircuitsError: a picture is missing, is not a picture of a known format, or is too large; or there are too
            many of them. The message names file and field.
    """
    value = record.get(name)
    if value is None or (isinstance(value, str | list | tuple) and not value):
        return ()
    values = list(value) if isinstance(value, list | tuple) else [value]
    where = f"{place}: field {name!r}"
    if len(values) > MOST_IMAGES:
        raise RLCircuitsError(f"{where} has {len(values)} images; at most {MOST_IMAGES} are allowed")
    return tuple(_read(one, where, folder) for one in values)


def _read(value: Any, where: str, folder: Path | None) -> QuestionImage:
    if isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes):
        return _checked(value["bytes"], where, None)
    if isinstance(value, Mapping):
        value = value.get("path")
    if hasattr(value, "save") and hasattr(value, "convert"):  # decoded by datasets: a picture in memory has no bytes
        encoded = io.BytesIO()
        value.convert("RGB").save(encoded, "PNG")
        return _checked(encoded.getvalue(), where, None)
    if not isinstance(value, str) or not value:
        found = truncated_repr(value) if isinstance(value, Mapping) else json_type_name(value)
        raise RLCircuitsError(
            f"{where} holds {found}; the path of an image, relative to the question file, or a list of paths is wanted"
        )
    if folder is None:
        raise RLCircuitsError(f"{where} names the file {truncated_repr(value)}, and the dataset has no folder for it")
    try:
        file = folder / value
        size = file.stat().st_size
    except (OSError, ValueError) as error:
        raise RLCircuitsError(
            f"{where}: there is no image {truncated_repr(value)} ({one_line(error)}); paths are relative to {folder}"
        ) from None
    if size > MOST_BYTES:
        raise RLCircuitsError(f"{where}: {file} has {size:,} bytes; at most {MOST_BYTES:,} are allowed")
    return _checked(read_file(file, "an image"), where, file)


def _checked(data: bytes, where: str, file: Path | None) -> QuestionImage:
    """Return an image after a look at its header: decoding waits until it is used."""
    name = file or "the image"
    if len(data) > MOST_BYTES:
        raise RLCircuitsError(f"{where}: {name} has {len(data):,} bytes; at most {MOST_BYTES:,} are allowed")
    pillow = _pillow(where)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)  # the limit below is ours
            with pillow.open(io.BytesIO(data), formats=FORMATS) as opened:
                width, height = opened.size
    except pillow.DecompressionBombError:
        width = height = MOST_PIXELS
    except Exception as error:  # Pillow raises errors of many classes for a damaged file
        raise RLCircuitsError(
            f"{where}: {name} is not an image that can be read ({one_line(error)}); one of {', '.join(FORMATS)} is "
            "wanted"
        ) from None
    if width * height > MOST_PIXELS:
        raise RLCircuitsError(f"{where}: {name} has more than {MOST_PIXELS:,} pixels; make it smaller")
    return QuestionImage(hashlib.sha256(data).hexdigest(), where, file, data if file is None else None)


def _pillow(where: str) -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError:
        raise RLCircuitsError(
            f"{where} holds images, which Pillow opens, and it is not installed: pip install 'rlcircuits[images]'"
        ) from None
