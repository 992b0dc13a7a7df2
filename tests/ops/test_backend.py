from __future__ import annotations

import re
from pathlib import Path

import pytest

import densehead
from densehead.ops import backend, use_backend
from densehead.ops.backend import mmcv_ops


def test_backend_is_mmcv_where_its_operators_load():
    assert backend() == ("torchvision" if mmcv_ops() is None else "mmcv")


def test_backend_can_be_forced_and_comes_back_even_after_an_error():
    before = backend()
    inside = []

    def fail():
        with use_backend("torchvision"):
            inside.append(backend())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert inside == ["torchvision"]
    assert backend() == before


def test_unknown_backend():
    with (
        pytest.raises(ValueError, match=r"one of \('mmcv', 'torchvision'\), but got 'detectron2'"),
        use_backend("detectron2"),
    ):
        pass


@pytest.mark.skipif(mmcv_ops() is not None, reason="mmcv has compiled operators here")
def test_mmcv_cannot_be_forced_where_it_is_not():
    with pytest.raises(RuntimeError, match="no compiled operators"), use_backend("mmcv"):
        pass


def test_no_other_package_imports_operators():
    package = Path(densehead.__file__).parent
    pattern = re.compile(r"(mmcv|torchvision)(\.ops| import ops)")
    found = [
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if package / "ops" not in path.parents and pattern.search(path.read_text())
    ]
    assert found == []
