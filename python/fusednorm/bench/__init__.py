"""`fusednorm bench`: how fast the norms are here, beside everyone else's.

`command.py` is the way in. What is measured is in `shapes.py` and `cases.py`, by whom
in `competitors/`, how in `timing.py` and `run.py`. What comes out is described in
`records.py`, and all that is shown (`table.py`, `plots.py`, `page.py`) is made of that.
"""
