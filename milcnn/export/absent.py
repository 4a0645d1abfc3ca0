"""What to say where a library of the extra ``export`` is not installed."""

from importlib.util import find_spec


def needed(*packages: str) -> None:
    """Raise ImportError, which says what to install, unless all ``packages`` are there."""
    if missing := [package for package in packages if find_spec(package.split(".")[0]) is None]:
        raise ImportError(f"this export needs {', '.join(missing)}; run 'pip install {' '.join(missing)}'.")
