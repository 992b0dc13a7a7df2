#!/usr/bin/env python
"""Fetch mmdetection's configs: the wheel of mmdet 3.3.0 from the package index, of which only the configs are unpacked.

python tools/fetch_mmdet_configs.py --to data/mmdet_configs
python tools/train.py data/mmdet_configs/gfl/gfl_r50_fpn_1x_coco.py

Nothing is installed, and nothing of the wheel is run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "mmdet==3.3.0"
INSIDE = "mmdet/.mim/configs/"  # where the wheel keeps them


def fetch(folder: Path, *, timeout: float = 300) -> int:
    """Put the configs into a folder; return their number.

    Args:
        folder: is made where it is not there; files of the same names are written over.
        timeout: seconds that the download may take.

    Raises:
        ConnectionError: pip cannot download the wheel; the message ends with what it says.
    """
    with tempfile.TemporaryDirectory() as downloads:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        try:
            ran = subprocess.run(
                [*command, "--only-binary=:all:", "--dest", downloads, WHEEL],
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            raise ConnectionError(f"{WHEEL} is not here after {timeout:g} s") from None
        if ran.returncode:
            reason = ran.stderr.strip().rpartition("\n")[2]
            raise ConnectionError(f"{WHEEL} cannot be downloaded: {reason}")
        with zipfile.ZipFile(next(Path(downloads).glob("*.whl"))) as wheel:
            return _unpack(wheel, folder)


def _unpack(wheel: zipfile.ZipFile, folder: Path) -> int:
    names = [name for name in wheel.namelist() if name.startswith(INSIDE) and name.endswith(".py")]
    for name in names:
        path = folder / name.removeprefix(INSIDE)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wheel.read(name))
    return len(names)


def main() -> int:
    parser = argparse.ArgumentParser(description="Fetch mmdetection's configs out of the wheel of mmdet 3.3.0.")
    parser.add_argument("--to", type=Path, default=Path("data/mmdet_configs"), help="folder to put them into")
    args = parser.parse_args()
    try:
        count = fetch(args.to)
    except ConnectionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.to}: {count} configs of {WHEEL}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
