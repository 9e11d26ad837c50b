"""Settings on the command line: read from a preset, a file and single changes; shown with their meanings."""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from ssdnet_core.config import Config, parse_config
from ssdnet_core.errors import InvalidConfigError

_INTEGER, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"


def settings_from(preset: str | None, config_file: Path | None, *, changes: list[str]) -> Config:
    """Put the settings together.

    Parameters
    ----------
    preset
        Name of the preset that single changes start from; None for the defaults, or the file's.
    config_file
        YAML file; settings it does not name keep their defaults.
    changes
        As ``fit.steps=50``; applied last.

    Raises
    ------
    InvalidConfigError
        Naming what is wrong and what is allowed.
    """
    if config_file is not None and preset is not None:
        raise InvalidConfigError(f"--preset {preset} and --config {config_file} exclude each other: give one of them")
    start = _read_file(config_file) if config_file else Config.preset(preset or "default")
    return start.updated(changes_from(changes))


def changes_from(changes: list[str]) -> dict[str, Any]:
    """Return single changes, as ``fit.steps=50``, by the names of their settings.

    Raises
    ------
    InvalidConfigError
        If one is not of that form.
    """
    return dict(_split(change) for change in changes)


def settings_as_yaml(config: Config) -> str:
    """Return all settings as YAML, each under a comment with its meaning."""
    return "\n".join(_lines(config, indent=""))


class _PlainLoader(yaml.SafeLoader):
    """Takes numbers as they look: YAML 1.1, which PyYAML reads, has 060 for 48 and 1:30 for 90."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_INTEGER, _FLOAT)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# What is no such number is a text, which the settings themselves read.
_PlainLoader.add_implicit_resolver(_INTEGER, re.compile(r"[-+]?(0|[1-9][0-9_]*)$"), list("-+0123456789"))
_PlainLoader.add_implicit_resolver(
    _FLOAT,
    re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"),
    list("-+.0123456789"),
)


class _OnceLoader(_PlainLoader):
    """Refuses a name that is given twice, where YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [name.value for name, _ in node.value]
        for place, (name, _) in enumerate(node.value):
            if name.value in names[:place]:
                raise yaml.MarkedYAMLError(problem=f"{name.value} is given twice", problem_mark=name.start_mark)
        return super().construct_mapping(node, deep=deep)


def _read_file(path: Path) -> Config:
    try:
        tree = _OnceLoader(path.read_text()).get_single_data()
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidConfigError(f"cannot read the settings in {path}: {error}") from error
    if not isinstance(tree, dict):
        raise InvalidConfigError(f"{path} holds no settings: begin with what `ssdnet settings` prints")
    return parse_config(tree)


def _split(change: str) -> tuple[str, Any]:
    name, equals, value = change.partition("=")
    if not equals:
        raise InvalidConfigError(f"--set {change!r} is not of the form name=value, as fit.steps=50")
    try:
        return name.strip(), yaml.load(value, _PlainLoader)
    except (yaml.YAMLError, ValueError) as error:  # A ValueError for what looks like a date or a number.
        raise InvalidConfigError(f"--set {change!r}: {value!r} is no value: {error}") from error


def _lines(model: BaseModel, *, indent: str) -> list[str]:
    lines: list[str] = []
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        lines.append(f"{indent}# {field.description}")
        if isinstance(value, BaseModel):
            lines += [f"{indent}{name}:", *_lines(value, indent=indent + "  ")]
        else:
            plain = list(value) if isinstance(value, tuple) else value
            text = yaml.safe_dump(plain, default_flow_style=True).removesuffix("...\n").strip()
            lines.append(f"{indent}{name}: {text}")
    return lines
