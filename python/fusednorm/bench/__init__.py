"""`fusednorm bench`: how fast the norms are here, beside everyone else's.

`command.py` is the way in. What is measured is in `shapes.py`, `cases.py` and
`networks.py`, by whom in `competitors/`, how in `timing.py`, `measure.py` and
`models.py`, on what in `machines.py`. `run.py` runs it all. What comes out is described
in `records.py`, and all that is shown (`table.py`, `plots.py`, `page.py`, `compare.py`)
is made of that.
"""
