"""Study: a grid of runs and a report on when text helps, by how much, and for which backbones.

    recipe with a section `study`
        │  grid       cells: backbone x arm x variant x targets x fold x seed; each is the recipe of one run
        ▼
    DIR/cells/NAME/                run directories, one per cell
        │  local      runs several cells at a time here (`run_cell` runs one; `run` plans and continues)
        ▼
    predictions, gates, vectors, metrics of the test molecules
        │  collect    aligns the cells of a comparison: the same molecules in the same order
        ▼
    errors [molecule, target] and probabilities of classes by backbone, arm, variant, fold, seed
        │  bootstrap (molecules), corrected_ttest (trainings), judgement (both), significance (one family)
        │  compare      effects: gains in percent, differences in AUROC
        │  primary, gains, classes, architectures, gates, groups, costs      the sections, as tables of
        numbers ▼
    DIR/report/     report.html, report.md, numbers/*.csv, figures/*.svg and *.png

Data flows in one direction: a section reads the results of `collect` and returns tables and figures. A report
trains nothing, so it can be made at any time from the finished cells.
"""
