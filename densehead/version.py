"""The version of densehead, and the check that what it stands on can be imported."""

from __future__ import annotations

import re
from importlib import import_module

__version__ = "0.1.0"

# import name -> (oldest version that works, line that installs it)
REQUIRED = {
    "mmengine": ("0.10.0", "pip install onedl-mmengine"),
    "mmcv": ("2.0.0", "pip install onedl-mmcv"),
}


# mmcv requires the OpenCV with windows, which needs libraries that servers and containers often lack
HEADLESS = (
    "OpenCV wants the system's libGL: pip install --force-reinstall --no-deps opencv-python-headless "
    "(or apt-get install libgl1 libglib2.0-0)"
)


def parse_version(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version as a tuple: ``'2.1.0rc1'`` is ``(2, 1, 0)``."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def check_dependencies() -> None:
    """Say in one line what to install where mmcv or mmengine is missing or too old.

    Any distribution that provides the packages will do; none is forced by the installation of densehead.

    Raises:
        ImportError: a package is absent or older than the oldest version that works.
    """
    for name, (oldest, line) in REQUIRED.items():
        try:
            module = import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            raise ImportError(
                f"densehead needs the package {name!r} (>= {oldest}), which is not here: {line}"
            ) from None
        except ImportError as error:
            if "libGL" not in str(error):
                raise
            raise ImportError(f"{error}. {HEADLESS}") from error
        if parse_version(module.__version__) < parse_version(oldest):
            raise ImportError(
                f"densehead needs {name!r} >= {oldest}, but found {module.__version__} ({module.__file__}): {line}"
            )
