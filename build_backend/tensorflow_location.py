"""Finds the TensorFlow to compile against, without importing it.

The op library is bound to one minor version of TensorFlow, so the one that counts
is the one the user already has. A front end hides it from an isolated build, but
its folder still tells the version and serves headers and libraries in place: there
is nothing to download. `docs/building.md` tells the whole story.

As a script, it prints `<folder>;<version>`, which CMake reads as a list, or with
`--requirement` the requirement to install where there is no TensorFlow yet.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

# Minor versions, oldest first. The XLA FFI headers that the ops are written for
# are not in the wheels of 2.19 and older.
SUPPORTED = ("2.20", "2.21")

# The distributions that provide the folder `tensorflow`.
DISTRIBUTIONS = ("tensorflow", "tensorflow-cpu", "tf-nightly", "tf-nightly-cpu")


class TensorFlowError(RuntimeError):
    """The TensorFlow that was found or asked for cannot be compiled against."""


@dataclasses.dataclass(frozen=True)
class TensorFlow:
    """An installed TensorFlow.

    Attributes:
        folder: The package's folder, `.../site-packages/tensorflow`.
        distribution: Name of the distribution it came from, e.g. `tensorflow-cpu`.
        version: Its full version, e.g. `2.21.0`.
    """

    folder: Path
    distribution: str
    version: str

    @property
    def requirement(self) -> str:
        """What a wheel compiled against this TensorFlow requires."""
        return f"{self.distribution}=={_minor(self.version)}.*"


def find() -> TensorFlow | None:
    """Returns the TensorFlow to compile against, or None where there is none.

    `FUSEDNORM_TENSORFLOW_DIR` names its folder. Without it, the first one on the
    search path counts, or with `FUSEDNORM_TENSORFLOW_VERSION` the first one of that
    version.

    Raises:
        TensorFlowError: If the TensorFlow found is not a supported one.
    """
    if folder := os.environ.get("FUSEDNORM_TENSORFLOW_DIR"):
        found = _read(Path(folder))
        if found is None:
            raise TensorFlowError(
                "FUSEDNORM_TENSORFLOW_DIR must be the folder of an installed "
                "TensorFlow, like .../site-packages/tensorflow, with its "
                f"`.dist-info` folder beside it. Received: {folder}"
            )
        return _supported(found)
    wanted = _wanted_version()
    for site_packages in _search_path():
        found = _read(site_packages / "tensorflow")
        if found and (wanted is None or f"{found.version}.".startswith(f"{wanted}.")):
            return _supported(found)
    return None


def requirement() -> str:
    """Returns the TensorFlow to install for a build where `find()` has none."""
    version = _wanted_version() or SUPPORTED[-1]
    return f"tensorflow=={version}" + (".*" if version.count(".") == 1 else "")


def supported_range() -> str:
    """Returns the requirement that every supported TensorFlow satisfies."""
    major, minor = SUPPORTED[-1].split(".")
    return f"tensorflow>={SUPPORTED[0]},<{major}.{int(minor) + 1}"


def _wanted_version() -> str | None:
    version = os.environ.get("FUSEDNORM_TENSORFLOW_VERSION") or None
    if version and _minor(version) not in SUPPORTED:
        raise TensorFlowError(
            f"FUSEDNORM_TENSORFLOW_VERSION must be {' or '.join(SUPPORTED)}, or a "
            f"release of one of them. Received: {version}"
        )
    return version


def _search_path() -> Iterator[Path]:
    """Yields the `site-packages` folders that may hold the user's TensorFlow."""
    # In an isolated build sys.path is the isolated environment, and the rest is what
    # the front end has hidden. pip runs the user's own interpreter, which still
    # knows its folders.
    yield from map(Path, sys.path)
    in_virtual_env = sys.prefix != sys.base_prefix
    if in_virtual_env:
        yield from _site_packages(sys.prefix)
    if not in_virtual_env or _sees_system_packages():
        yield Path(site.getusersitepackages())
        yield from _site_packages(sys.base_prefix)
    # build runs another one, and only the activated environment is a trace.
    if virtual_env := os.environ.get("VIRTUAL_ENV"):
        yield from _site_packages(virtual_env)


def _site_packages(prefix: str) -> Iterator[Path]:
    variables = {"base": prefix, "platbase": prefix}
    for scheme in ("posix_prefix", "posix_local"):  # The second is Debian's.
        if scheme in sysconfig.get_scheme_names():
            yield Path(sysconfig.get_path("purelib", scheme, variables))
            yield Path(sysconfig.get_path("platlib", scheme, variables))


def _sees_system_packages() -> bool:
    configuration = Path(sys.prefix, "pyvenv.cfg").read_text(encoding="utf-8")
    return any(
        line.replace(" ", "").lower() == "include-system-site-packages=true"
        for line in configuration.splitlines()
    )


def _read(folder: Path) -> TensorFlow | None:
    if not (folder / "include" / "tensorflow").is_dir():
        return None
    # The headers of 2.21 do not tell the version, the metadata beside them does.
    for name in DISTRIBUTIONS:
        path = [str(folder.parent)]
        for metadata in importlib.metadata.distributions(name=name, path=path):
            return TensorFlow(folder, name, metadata.version)
    return None


def _supported(found: TensorFlow) -> TensorFlow:
    if _minor(found.version) not in SUPPORTED:
        raise TensorFlowError(
            f"fusednorm supports TensorFlow {' and '.join(SUPPORTED)}, but found "
            f"{found.distribution} {found.version} in {found.folder.parent}. Install a "
            f'supported version, e.g. pip install "{supported_range()}", or set '
            "FUSEDNORM_TENSORFLOW_DIR to the folder of one, like "
            ".../site-packages/tensorflow."
        )
    return found


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def main() -> None:
    """Prints what was found, or with `--requirement` what to install."""
    if sys.argv[1:] == ["--requirement"]:
        print(requirement())
        return
    found = find()
    if found is None:
        sys.exit(
            f"No TensorFlow {' or '.join(SUPPORTED)} found in: "
            + ", ".join(dict.fromkeys(map(str, _search_path())))
        )
    print(f"{found.folder};{found.version}")


if __name__ == "__main__":
    try:
        main()
    except TensorFlowError as error:
        sys.exit(str(error))
