"""Packaging of densehead. What to install for a fresh machine is in requirements.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def read_version() -> str:
    """Return ``__version__`` without importing the package, which would need torch."""
    text = (ROOT / "densehead" / "version.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE).group(1)


def read_readme() -> str:
    """Return the README, or nothing where the archive holds none."""
    path = ROOT / "README.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


setup(
    name="densehead",
    version=read_version(),
    description="Dense object-detection heads (FCOS, ATSS, ...) from config dicts, for today's PyTorch",
    long_description=read_readme(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["densehead", "densehead.*"]),
    package_data={"densehead.analysis.page": ["*.html", "*.css", "*.js"]},
    python_requires=">=3.10",
    # The lower bounds are what .ci/matrix/oldest.txt tests. matplotlib 3.7: legends in reverse order. Pillow 9.4: names
    # of filters that torchvision uses warn in the ones before. NumPy 1.24: what the tests compare arrays with.
    # mmcv and mmengine exist in several distributions; whichever is there is kept, and without any
    # `import densehead` says what to install.
    install_requires=[
        "torch>=2.1",
        "torchvision>=0.16",
        "numpy>=1.24",
        "scikit-learn>=1.1.3",
        "matplotlib>=3.7",
        "pillow>=9.4",
        "faster-coco-eval>=1.6",
    ],
    extras_require={
        "mm": ["onedl-mmengine>=0.10.8", "onedl-mmcv>=2.3"],
        "tensorboard": ["tensorboard>=2.11.2"],
        "dev": ["pytest>=8", "pytest-xdist>=3.5", "pycocotools>=2.0.6", "hypothesis>=6.100", "ruff==0.17.6"],
    },
    classifiers=[
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Operating System :: POSIX :: Linux",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
