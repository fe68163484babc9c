#!/usr/bin/env bash
# All runs of the study, in order; the same command continues after anything. Run it in the root of the repository,
# after the preparation in the head of docs/studies/settle.yaml:   docs/studies/settle/run.sh [DIRECTORY OF RUNS]
set -euo pipefail
runs=${1:-runs}
study() { mmgnn study docs/studies/settle.yaml --dir "$runs/$1" "${@:2}"; }

study settle
# half of each training set, for as many steps: is the error limited by data?
study settle-half data.train_size=1000 train.epochs=189 train.validate_every=12 'study.arms=[graph, both]' \
    'study.folds=[0, 1, 2, 3, 4, 5]'
# twice the steps: is the error converged?
study settle-long train.epochs=192 train.validate_every=12 'study.arms=[graph, both]' 'study.folds=[0, 1]'
mmgnn report "$runs/settle"
