"""What pyproject.toml cannot say: the wheel requires the TensorFlow it is built with.

The build backend in build_backend/ puts `tensorflow_location` on the path.
"""

import tensorflow_location
from scikit_build_core.setuptools.wrapper import setup

tensorflow = tensorflow_location.find()

setup(
    install_requires=[
        # Only an sdist gets by without TensorFlow, and it serves any of them.
        tensorflow.requirement if tensorflow else tensorflow_location.supported_range(),
        "keras>=3.10",
        "numpy>=1.26",
    ],
)
