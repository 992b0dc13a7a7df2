"""Reading a config file, with options from outside."""

from __future__ import annotations

import argparse
import ast
import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction

from densehead.apis.safe_config import UnsafeConfigError, check_safe, read_safe
from densehead.apis.upgrade import OldSpellingError, check_spelling
from densehead.arguments import near

# Top-level keys that a config need not have for an option to set them
RUN_KEYS = (
    "auto_scale_lr",
    "custom_hooks",
    "custom_imports",
    "data_preprocessor",
    "default_hooks",
    "default_scope",
    "env_cfg",
    "experiment_name",
    "launcher",
    "load_from",
    "log_level",
    "log_processor",
    "model_wrapper_cfg",
    "optim_wrapper",
    "param_scheduler",
    "randomness",
    "resume",
    "runner_type",
    "test_cfg",
    "test_dataloader",
    "test_evaluator",
    "train_cfg",
    "train_dataloader",
    "tta_model",
    "tta_pipeline",
    "val_cfg",
    "val_dataloader",
    "val_evaluator",
    "visualizer",
    "work_dir",
)


class OptionAction(DictAction):
    """mmengine's ``--cfg-options``, which takes Python's literals and ``dict(...)`` too.

    A value with quotation marks or ``dict(`` in it is read as Python, so that ``classes="('traffic light','car')"``
    keeps the space and ``hooks="[dict(type='EMAHook')]"`` is a list of dicts. Any other is read as mmengine does it.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: list[str],
        option_string: str | None = None,
    ) -> None:
        """Add the options to those given before."""
        options = dict(getattr(namespace, self.dest, None) or {})
        for text in values:
            key, equals, value = text.partition("=")
            if not equals:
                parser.error(f"{option_string} takes KEY=VALUE, but got {text!r}")
            options[key] = self._value(value)
        setattr(namespace, self.dest, options)

    def _value(self, text: str) -> Any:
        if {"'", '"'} & set(text) or "dict(" in text:
            with contextlib.suppress(ValueError, SyntaxError):
                return ast.literal_eval(_DictCalls().visit(ast.parse(text.strip(), mode="eval")))
        return self._parse_iterable(text)


class _DictCalls(ast.NodeTransformer):
    """Writes ``dict(a=1)`` as ``{'a': 1}``."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if getattr(node.func, "id", None) != "dict" or node.args or not all(one.arg for one in node.keywords):
            return node
        names = [ast.Constant(one.arg) for one in node.keywords]
        return ast.copy_location(ast.Dict(names, [one.value for one in node.keywords]), node)


def load_config(file: str | os.PathLike, options: Mapping[str, Any] | None = None, *, safe: bool = False) -> Config:
    """Read a config file.

    An option that names a variable of the file or of its bases (``data_root=...``, ``classes=...``) counts from the
    line of its assignment on, so all that the file makes of it follows; any other option is merged into the result.

    Args:
        file: path of the config file.
        options: what to override, by dotted keys, as ``--cfg-options`` gives it.
        safe: run nothing of the file, see :mod:`densehead.apis.safe_config`. A config in Python is a program, and so
            may one in YAML be.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, is not safe though that is asked for, is written for mmdetection 2.x (the message
            says what to write in its place), or an option names a top-level key that neither the file nor the runner
            has.
    """
    path = Path(file)
    if not path.is_file():
        siblings = [one.name for one in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise FileNotFoundError(f"there is no config file {path}.{near(path.name, siblings)}")
    options = dict(options or {})
    try:
        cfg = read_safe(path) if safe else _read(path, options)
        check_spelling(cfg, path)
        _check_options(cfg, options, path)
        cfg.merge_from_dict(options)
    except (FileNotFoundError, OldSpellingError, UnsafeConfigError):
        raise
    except Exception as error:
        raise ValueError(f"{path} cannot be read as a config: {type(error).__name__}: {error}") from error
    if safe:
        check_safe(cfg.to_dict(), path)
    return cfg


def _read(path: Path, options: dict[str, Any]) -> Config:
    """Read the file, with new values of the variables that options name; these are taken out of ``options``."""
    changed: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        source = _with_options(path, options, Path(folder), changed)
        cfg = Config.fromfile(source)
    for name in changed:
        del options[name]
    return Config(cfg._cfg_dict, cfg_text=path.read_text(encoding="utf-8"), filename=str(path)) if changed else cfg


def _with_options(path: Path, options: Mapping[str, Any], folder: Path, changed: set[str]) -> Path:
    """Return the file, or one in ``folder`` that differs by the options that name variables of it or of its bases."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8")) if path.suffix == ".py" else None
    except SyntaxError:  # or templates of mmengine, which are no Python before they are filled in
        tree = None
    differs = False
    for node in tree.body if tree is not None else ():
        name = node.targets[0].id if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) else None
        if name == "_base_":
            bases = [
                one for one in ast.walk(node.value) if isinstance(one, ast.Constant) and "::" not in str(one.value)
            ]
            for base in bases:
                file = path.parent / base.value
                base.value = str(_with_options(file, options, folder, changed) if file.is_file() else file)
                differs |= Path(base.value) != file
                base.value = os.path.abspath(base.value)
        elif name in options and not isinstance(options[name], dict):
            node.value = ast.parse(repr(options[name]), mode="eval").body
            changed.add(name)
            differs = True
    if not differs:
        return path
    copied = folder / f"base{len(list(folder.iterdir()))}" / path.name
    copied.parent.mkdir()
    copied.write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")
    return copied


def _check_options(cfg: Config, options: Mapping[str, Any], path: Path) -> None:
    for option in options:
        key = option.partition(".")[0]
        if key not in cfg and key not in RUN_KEYS:
            raise ValueError(f"--cfg-options {option}: {path.name} has no key {key!r}.{near(key, (*cfg, *RUN_KEYS))}")
