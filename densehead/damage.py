"""Whether a checkpoint file is still what was written."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib

_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"  # how files of PyTorch before 1.6 begin
_FAULTS = (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, EOFError, RuntimeError, ValueError)


def damage_of(file: str | os.PathLike | io.BytesIO) -> str | None:
    """Say what is wrong with a file of ``torch.save``, or None where every record is as it was written.

    Such files are zip archives with a checksum (CRC-32) for each record, which ``torch.load`` does not compare: without
    this a flipped bit becomes a weight. Files of PyTorch before 1.6 have no checksums, and None is all that is known.

    Args:
        file: path, or the content.

    Returns:
        The end of a sentence that begins with the name of the file.

    Raises:
        FileNotFoundError: no such file.
    """
    if isinstance(file, io.BytesIO):
        return _damage(file)
    try:
        with open(file, "rb") as opened:
            return _damage(opened)
    except FileNotFoundError:
        raise
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _damage(file: io.BufferedIOBase) -> str | None:
    file.seek(0)
    start = file.read(len(_ZIP))
    if not start:
        return "is empty"
    if not start.startswith(_ZIP):
        return None if start.startswith(_PICKLE) else "is no file of torch.save"
    try:
        with zipfile.ZipFile(file) as archive:
            record = archive.testzip()
    except _FAULTS:
        return "is not whole (the list of its records is damaged or missing)"
    finally:
        file.seek(0)
    return None if record is None else f"is damaged (its record {record} does not match its checksum)"
