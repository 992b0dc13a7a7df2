"""Errors of what a config builds, as findings."""

from __future__ import annotations

from collections.abc import Mapping

from densehead.analysis.doctor.findings import Example, Finding, Severity
from densehead.arguments import error_chain, explain_arguments, walk


def explain(error: BaseException, cfg: object, key: str) -> str:
    """Return what is wrong, with the path of the key where that is known.

    Args:
        error: raised while something was built.
        cfg: the config of it.
        key: where that stands in the whole config.
    """
    for one in error_chain(error):
        if isinstance(one, TypeError):
            for path, node in walk(cfg, key):
                text = explain_arguments(one, node, path)
                if text is not None:
                    return text
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    return text if " " in text else f"{type(error).__name__}: {text}"  # a mere name tells nothing


def config_finding(
    error: BaseException, cfg: Mapping, key: str, split: str = "", what: str = "a part of the config cannot be built"
) -> Finding:
    """Return the finding of a part of the config that cannot be built, or does not run."""
    text = explain(error, cfg, key)
    return Finding("config", Severity.ERROR, what, split=split, examples=(Example(key, "", text),))
