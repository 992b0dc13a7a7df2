"""Checkpoints and pickle files, read without running what they say: tensors, plain containers, what runners keep."""

from __future__ import annotations

import codecs
import io
import os
import pathlib
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pickle import UnpicklingError
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from densehead.version import parse_version

# Objects of these packages lie in checkpoints beside the weights; none is needed, and none is made
_PASSED_OVER = re.compile(r"(mmengine|mmcv|mmdet|mmcls|mmpretrain|mmseg|mmselfsup|mmrazor|mmyolo|addict)\.")
_CONFIG_DICTS = ("mmengine.config.config.ConfigDict", "mmcv.utils.config.ConfigDict", "addict.addict.Dict")
_REFUSED = re.compile(r"(?:GLOBAL|class) ([\w.]+)")


def safe_globals() -> list:
    """Return what mmengine's runner saves beside weights: log buffers, NumPy numbers and paths, for
    :func:`torch.serialization.safe_globals`; nothing for a PyTorch before 2.6, which has no such list.
    """
    if parse_version(torch.__version__) < (2, 6):
        return []
    return [(value, name) for name, value in _known().items()]


def read_checkpoint(
    file: str | os.PathLike | io.BytesIO,
    *,
    map_location: Any = "cpu",
    key: str = "checkpoint",
    name: str | None = None,
    unread: str | None = None,
) -> Any:
    """Read a file of ``torch.save``, with the reader that runs no code of the file.

    Configs in it come as plain dicts; any other object of mmengine, mmcv or a package that stands on them is passed
    over, whether that package is installed or not.

    Args:
        file: path, or the content.
        map_location: as for :func:`torch.load`.
        key: who asks for it, for error messages.
        name: of the file, for error messages; its path if None.
        unread: pattern of the names (``module.class``) of further objects to pass over.

    Raises:
        ValueError: the file is no checkpoint, or holds objects that may run code; the message names the object.
    """
    name = str(file) if name is None else name
    stand_ins: dict[str, Any] = {}
    while True:
        try:
            return _read(file, map_location, stand_ins)
        except (UnpicklingError, EOFError, OSError, RuntimeError, ValueError) as error:
            refused = _REFUSED.search(str(error)) if isinstance(error, UnpicklingError) else None
            if refused is None:
                raise ValueError(_no_checkpoint(error, key, name)) from None
            kind = refused.group(1)
            is_passed_over = _PASSED_OVER.match(kind) or (unread and re.match(unread, kind))
            if kind in stand_ins or not is_passed_over:
                raise ValueError(
                    f"{key}: {name} cannot be read as weights: it holds a {kind}, which could run code of the file. "
                    f"If it comes from a source that you trust, convert it once: {_conversion(name)}"
                ) from None
            stand_ins[kind] = OrderedDict if kind in _CONFIG_DICTS else _Unread


def read_pickle(data: bytes, *, key: str, name: str) -> Any:
    """Read what ``pickle.dump`` has written, of tensors, arrays, paths and plain containers; no code of it is run.

    Args:
        data: the content of the file.
        key: who asks for it, for error messages.
        name: of the file, for error messages.

    Raises:
        ValueError: it is no pickle file, or holds objects that may run code; the message names the object.
    """
    known = {**_known(), "torch.storage._load_from_bytes": _storage}
    try:
        return _restricted(known).load(io.BytesIO(data))
    except Exception as error:  # damaged files raise whatever they lead to
        refused = _REFUSED.search(str(error)) if isinstance(error, UnpicklingError) else None
        if refused is None:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"{key}: {name} cannot be read as a pickle file: {reason}") from error
        raise ValueError(
            f"{key}: {name} is not read: it holds a {refused.group(1)}, which could run code of the file. Tensors, "
            "NumPy arrays and plain containers are read"
        ) from None


def _read(file: str | os.PathLike | io.BytesIO, map_location: Any, stand_ins: dict[str, Any]) -> Any:
    if isinstance(file, io.BytesIO):
        file.seek(0)
    if parse_version(torch.__version__) < (2, 6):
        reader = _restricted({**_known(), **stand_ins})
        return torch.load(file, map_location=map_location, pickle_module=reader, weights_only=False)
    entries = [*safe_globals(), *((value, name) for name, value in stand_ins.items())]
    with torch.serialization.safe_globals(entries):
        return torch.load(file, map_location=map_location, weights_only=True)


def _restricted(known: dict[str, Any]) -> SimpleNamespace:
    """Return a ``pickle`` that makes only what PyTorch's reader allows and what is ``known``."""
    from torch._weights_only_unpickler import _get_allowed_globals

    allowed = {**_get_allowed_globals(), **known}

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            full_name = f"{'builtins' if module == '__builtin__' else module}.{name}"  # as Python 2 called it
            if full_name not in allowed:
                raise UnpicklingError(f"unsupported GLOBAL {full_name}")
            return allowed[full_name]

    def load(file: io.BufferedIOBase, **options: Any) -> Any:
        return Unpickler(file, **options).load()

    return SimpleNamespace(__name__="restricted", Unpickler=Unpickler, load=load)


def _known() -> dict[str, Any]:
    """Return what may be made, by the name that files have for it.

    NumPy 1 and 2 write the same functions under different names, and a checkpoint may be of the other NumPy.
    """
    core = np.core if parse_version(np.__version__) < (2,) else np._core  # 1.26 has a _core too, without these
    functions = {"_reconstruct": core.multiarray._reconstruct, "scalar": core.multiarray.scalar}
    numbers = (np.bool_, np.uint8, np.int32, np.uint32, np.int64, np.float16, np.float32, np.float64)
    kinds = {type(np.dtype(kind)) for kind in numbers}
    paths = {"PosixPath": pathlib.PurePosixPath, "WindowsPath": pathlib.PureWindowsPath}
    return {
        **{f"{one.__module__}.{one.__name__}": one for one in (HistoryBuffer, np.ndarray, np.dtype, *kinds)},
        **{f"numpy.{home}.multiarray.{name}": f for name, f in functions.items() for home in ("core", "_core")},
        **{f"numpy.{home}.numeric._frombuffer": core.numeric._frombuffer for home in ("core", "_core")},
        **{f"{home}.{name}": kind for name, kind in paths.items() for home in ("pathlib", "pathlib._local")},
        "_codecs.encode": codecs.encode,
        "builtins.set": set,
        "builtins.slice": slice,
        "builtins.getattr": _method_of_history,
    }


def _storage(data: bytes) -> Any:
    """Stand in for PyTorch's own reader of the numbers of a pickled tensor, which would run what they say."""
    return torch.load(io.BytesIO(data), weights_only=True)


class _Unread:
    """Stands where a file has an object that is not needed; takes whatever it is made of, keeps nothing."""

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _method_of_history(owner: type, name: str) -> Callable:
    """Stand in for ``getattr``, which a history is written with, in this one use."""
    if owner is not HistoryBuffer or name.startswith("_"):
        raise UnpicklingError(f"a checkpoint asks for {name!r} of {owner!r}, which none of mmengine does")
    return getattr(owner, name)


def _no_checkpoint(error: Exception, key: str, name: str) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"{key}: {name} cannot be read as weights ({reason}). If it is damaged, fetch it again. If it comes from "
        f"a source that you trust and holds other objects, convert it once: {_conversion(name)}"
    )


def _conversion(name: str) -> str:
    return f"torch.save(torch.load({name!r}, weights_only=False)['state_dict'], 'weights.pth')"
