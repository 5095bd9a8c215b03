"""Presets: configurations that ship with the package and go by their names, such as ``skills`` or ``peers/polar``."""

from __future__ import annotations

from importlib import resources

from polar_env.errors import UnknownNameError

__all__ = ["preset_text"]


def preset_text(name: str) -> str:
    """The YAML text of a preset.

    Raises:
        UnknownNameError: if there is none of that name.
    """
    presets = resources.files("train.presets")
    preset = presets / f"{name}.yaml"
    if not preset.is_file():
        folders = {"": presets, "peers/": presets / "peers"}
        names = [f"{start}{each.name[:-5]}" for start, at in folders.items() for each in at.iterdir() if each.is_file()]
        raise UnknownNameError("configuration", name, sorted(names), "Or give a .yaml file.")
    return preset.read_text(encoding="utf-8")
