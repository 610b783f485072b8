"""What converting does to small backbones of KerasHub, as a table in Markdown.

    python benchmarks/hub.py > table.md
    python benchmarks/hub.py Llama Flux

For each: how many of its norms are replaced, the largest difference of its outputs, and
how many times as fast a training step is: medians, original and converted taking turns.
At these sizes that is mostly the time to call operations.
"""

import sys
from pathlib import Path

import fusednorm
import keras

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "tests"), str(ROOT / "examples")]

from convert_hub import milliseconds, training_step  # noqa: E402
from support.hub_backbones import NAMES, backbone, random_inputs  # noqa: E402


def row(name: str) -> str:
    """Returns the line of a backbone."""
    theirs, ours = backbone(name), backbone(name)
    ours.set_weights(theirs.get_weights())
    inputs = random_inputs(theirs)
    fusednorm.convert(ours, inputs=inputs, verbose=False)
    report = ours.fusednorm_conversion
    norms = ", ".join(
        f"{cls.rpartition('>')[2]} {replaced} of {seen}"
        for cls, (replaced, seen) in report.by_class.items()
    )
    steps = [
        training_step(model, inputs, jit_compile=False) for model in (theirs, ours)
    ]
    for step in steps:
        step()  # Traces it.
    before, after = milliseconds(steps, repeats=21)
    keras.backend.clear_session()
    return f"| {name} | {norms} | {report.difference:.1e} | {before / after:.2f} |"


def main() -> None:
    """Prints the table, line by line."""
    print("| backbone | norms replaced | largest difference | times as fast |")
    print("|---|---|---|---|")
    for name in sys.argv[1:] or NAMES:
        print(row(name), flush=True)


if __name__ == "__main__":
    main()
