"""What a cell of a chapter calls, in one import:

    from tiedlib.lab.notebook import agree, explore, plots, questions, show, source

`explore` and `show` give figures, `questions` asks the reader, `agree` compares with a reference, `claim` proves what notes say,
`source` shows the library's code, `table` a table, `corpus_or` a text or its substitute; `load_runs` reads recorded runs,
`paired` and `spread` say what their seeds have in common, `origins` where they come from; `load`, `grid` and `plots` are those of
the rooms `data`, `grid` and `figures`.
"""

from tiedlib.lab.data import load
from tiedlib.lab.figures import plots
from tiedlib.lab.grid import grid
from tiedlib.lab.notebook import questions
from tiedlib.lab.notebook.agreement import agree
from tiedlib.lab.notebook.chapter import corpus_or, source, table
from tiedlib.lab.notebook.claims import claim, waiting
from tiedlib.lab.notebook.explorer import explore, show
from tiedlib.lab.runs.recorded import load_runs, origins, paired, spread

__all__ = [
    "agree",
    "claim",
    "corpus_or",
    "explore",
    "grid",
    "load",
    "load_runs",
    "origins",
    "paired",
    "plots",
    "questions",
    "show",
    "source",
    "spread",
    "table",
    "waiting",
]
