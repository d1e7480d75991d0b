"""Notices a stranger's module that hides one of our top-level packages."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path


def require_own(package: str) -> None:
    """Make sure that importing `package` gives the one installed beside `nextstep_envs`.

    `registry` and `wrappers` are common names: a script folder with a `registry.py` comes first on `sys.path` and
    would be imported in our place. The stranger is found without being run, unless it already was.

    Raises:
        ImportError: another module would be imported, or none; the message names the file and the fix.
    """
    own = Path(__file__).resolve().parents[1] / package / "__init__.py"
    module = sys.modules.get(package)
    spec = module.__spec__ if module is not None else find_spec(package)
    found = getattr(module, "__file__", None) or (spec.origin if spec is not None else None)
    if found is None and spec is not None and spec.submodule_search_locations:
        found = next(iter(spec.submodule_search_locations))  # a folder without __init__.py
    if found is None:
        raise ImportError(f"{package!r} is missing at {own}; reinstall nextstep-envs", name=package)
    if Path(found).resolve() != own:
        raise ImportError(
            f"{found} hides the {package!r} package of nextstep-envs ({own.parent}); rename that file or folder, "
            "or start Python where it is not first on sys.path",
            name=package,
            path=found,
        )
