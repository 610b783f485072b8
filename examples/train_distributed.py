"""Trains one model on several devices or processes, and on one, step by step.

The model has a convolution, a transformer block and every norm of fusednorm. It is
trained under a tf.distribute strategy, where each replica gets a part of each batch,
and from the same weights by one device that gets the whole batches. The losses are
compared at every step.

    python examples/train_distributed.py --strategy mirrored
    python examples/train_distributed.py --strategy multiworker --workers 2

On a machine with GPUs `mirrored` uses all of them, and each worker of `multiworker`
one, if there are enough; elsewhere the devices are logical CPUs. With TF_CONFIG set the
script is one worker of the cluster that it describes.
"""

from __future__ import annotations

import argparse
import os
import sys

from local_cluster import WorkerError, run_workers

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Read when TensorFlow is imported.


def parse_arguments() -> argparse.Namespace:
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(
        description="Train a small model on several devices and on one, and compare "
        "the losses step by step.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--strategy", choices=("one", "mirrored", "multiworker"), default="mirrored"
    )
    parser.add_argument("--steps", type=int, default=44, help="22 are an epoch of 64")
    parser.add_argument(
        "--batch-size", type=int, default=64, help="samples on all replicas together"
    )
    parser.add_argument(
        "--workers", type=int, default=2, help="processes that multiworker starts"
    )
    parser.add_argument(
        "--timeout", type=float, default=300, help="seconds that the workers have"
    )
    options = parser.parse_args()
    for name in ("steps", "batch_size", "workers"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be positive")
    return options


def main() -> int:
    """Runs the demo and returns its exit code."""
    options = parse_arguments()
    if options.strategy != "multiworker" or "TF_CONFIG" in os.environ:
        # Not before: the process that starts the workers needs no TensorFlow.
        from distributed_training import compare

        return compare(options.strategy, options)
    try:
        run_workers([sys.executable, *sys.argv], options.workers, options.timeout)
    except WorkerError as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
