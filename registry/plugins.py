"""Third-party parts, found by package entry point; never looked for at import.

A plugin is an installed package with an entry point in the group "nextstep.plugins" that names a function
without arguments. The function registers the plugin's parts and environments:

    [project.entry-points."nextstep.plugins"]
    my_shop = "my_package.nextstep:register"
"""

from __future__ import annotations

from importlib.metadata import entry_points

from registry.errors import PluginError

GROUP = "nextstep.plugins"
_loaded: set[tuple[str, str]] = set()


def load_plugins() -> tuple[str, ...]:
    """Run every installed plugin that has not run yet, and return the names of those that ran now.

    Raises:
        PluginError: a plugin fails; its name, target and distribution are in the message.
    """
    ran = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        if (point.name, point.value) in _loaded:
            continue
        try:
            point.load()()
        except Exception as error:
            origin = f" of {point.dist.name!r}" if point.dist is not None else ""
            raise PluginError(
                f"plugin {point.name!r}{origin} ({point.value}) failed: {type(error).__name__}: {error}; "
                "repair or uninstall it"
            ) from error
        _loaded.add((point.name, point.value))
        ran.append(point.name)
    return tuple(ran)
