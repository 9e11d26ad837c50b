"""The settings of a batch in words: what differs from the default, written as ``--set`` takes it."""

import json
from typing import Any

from ssdnet_core.config import PRESETS, Config, setting_paths
from tasks.manifest import Manifest

DEFAULT = "default settings"


def settings_in_words(config: Config) -> str:
    """Return what differs from the default settings, or that nothing does; the device is left out.

    A preset is named if all its changes are in effect; what else differs follows.

    >>> settings_in_words(Config.preset("fast").updated({"verdict.expected_false_alarms": 0.01}))
    'preset fast, verdict.expected_false_alarms=0.01'
    """
    changes = _changes(config)
    presets = [name for name in PRESETS if (own := _changes(Config.preset(name))) and own.items() <= changes.items()]
    # Of several, the one that tells most.
    preset = max(presets, key=lambda name: len(PRESETS[name]), default=None)
    told = _changes(Config.preset(preset)) if preset else {}
    words = [f"preset {preset}"] if preset else []
    words += [f"{path}={value}" for path, value in changes.items() if path not in told]
    return ", ".join(words) or DEFAULT


def settings_of(manifest: Manifest) -> str:
    """Return the settings of a batch in words, and that another version of the method founded it if one did."""
    other = manifest.fingerprint != manifest.config.fingerprint()
    return settings_in_words(manifest.config) + (", in another version of the method" if other else "")


def _changes(config: Config) -> dict[str, str]:
    """Return the settings that are not the default's, as written, by their names."""
    given, default = (settings.model_dump(mode="json", exclude={"device"}) for settings in (config, Config()))
    there = [path for path in setting_paths() if path != "device"]
    return {path: json.dumps(value) for path in there if (value := _at(given, path)) != _at(default, path)}


def _at(tree: Any, path: str) -> Any:
    for part in path.split("."):
        tree = tree[part]
    return tree
