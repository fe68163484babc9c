"""A study: a grid of runs, and one report that says when text helps, by how much, and for which backbones.

    recipe with a section `study`
        │  grid       cells: backbone x arm x variant x targets x fold x seed, each the recipe of one run
        ▼
    DIR/cells/NAME/                run directories, run by whoever is handed them
        │  local      here, several at a time (`attempt` runs one; `run` plans, continues, writes down)
        ▼
    predictions, gates, vectors, metrics of the test molecules
        │  collect    the cells of a comparison side by side: the same molecules in the same order
        ▼
    errors [molecule, target] by backbone, arm, variant
        │  bootstrap, resampled, verdict      gains, intervals, p-values, what may be called a gain
        │  gains, agreement (cka), gates, groups, costs      the sections, as tables of numbers
        ▼
    DIR/report/     report.html, report.md, numbers/*.csv, figures/*.svg and *.png  (tables, figures, page)

One direction: a section reads what `collect` gives and returns tables and figures; nothing is trained for a
report, which can therefore be made at any time from the cells that are done.
"""
