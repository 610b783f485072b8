"""Build backend: scikit-build-core's setuptools plugin plus the user's TensorFlow.

The only thing added to the plugin is a build requirement on TensorFlow where
`tensorflow_location` finds none to compile against in place.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import tensorflow_location
from scikit_build_core.setuptools import build_meta
from scikit_build_core.setuptools.build_meta import (
    build_editable,
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

Settings = dict[str, Any] | None


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """Adds TensorFlow to the plugin's requirements if there is none to use."""
    return [
        *build_meta.get_requires_for_build_wheel(config_settings),
        *_tensorflow_requirement(),
    ]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    """Adds TensorFlow to the plugin's requirements if there is none to use."""
    return [
        *build_meta.get_requires_for_build_editable(config_settings),
        *_tensorflow_requirement(),
    ]


def build_wheel(
    wheel_directory: str,
    config_settings: Settings = None,
    metadata_directory: str | None = None,
) -> str:
    """Builds the wheel from an empty staging folder."""
    # setuptools never removes from it what has left the source tree.
    for staged in Path("build").glob("lib*"):
        shutil.rmtree(staged)
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def _tensorflow_requirement() -> list[str]:
    if tensorflow_location.find():
        return []
    return [tensorflow_location.requirement()]
