"""Reading YAML as strict models: every fault names the file, the key and the nearest legal spelling.

raw = read_yaml(path)
grid = parse(GridConfig, raw, path)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from aceslm.core.errors import ConfigError, nearest

_Model = TypeVar("_Model", bound=BaseModel)


class Strict(BaseModel):
    """A frozen model that knows all its keys: an unknown one is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; say file and line when it is broken."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise ConfigError(f"{path}: {reason}{_similar_files(path)}") from None
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, found {type(raw).__name__}")
    return raw


def parse(model: type[_Model], raw: Any, where: Path | str, prefix: str = "") -> _Model:
    """Validate `raw` as `model`; the first few faults become one ConfigError."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        faults = [_fault(model, fault, prefix) for fault in error.errors()]
        shown = "; ".join(faults[:4]) + (f"; and {len(faults) - 4} more" if len(faults) > 4 else "")
        raise ConfigError(f"{where}: {shown}") from None


def _fault(model: type[BaseModel], fault: Mapping[str, Any], prefix: str) -> str:
    location = list(fault["loc"])
    key = ".".join(str(part) for part in ([prefix] if prefix else []) + location)
    if fault["type"] == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        return f"unknown key '{key}'{nearest(str(location[-1]), known)}"
    if fault["type"] == "missing":
        return f"key '{key}' is missing"
    if fault["type"] == "literal_error":
        known = [
            word.strip().strip("'") for word in fault["ctx"]["expected"].replace(" or ", ", ").split(",")
        ]
        return f"key '{key}': '{fault['input']}' is not one of them{nearest(str(fault['input']), known)}"
    message = fault["msg"].removeprefix("Value error, ")
    got = "" if isinstance(fault["input"], dict) else f" (got {fault['input']!r})"
    return f"key '{key}': {message}{got}" if key else f"{message}{got}"


def _fields_at(model: type[BaseModel], location: Sequence[Any]) -> list[str]:
    for part in location:
        if part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model that a field holds: itself, or None, or several of it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in get_args(annotation) if (found := _model_in(one))), None)


def _similar_files(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    return nearest(path.name, [found.name for found in path.parent.glob("*.yaml")])
