# What a job does before and after its ranks. Part of every script that mmgnn submit writes; slurm/*.sbatch read it.
# Expects $run (run directory) and $max_restarts. Scripts of mmgnn submit also set $restart (how the run starts again),
# $submission (name of all jobs that were submitted together), $previous (the job that this one follows) and $code.

# Prints the id of this job or array element. One element has the same job number as the whole array.
mmgnn_job() { echo "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"; }

# Prints the folder of the notes of one start, by default of this one.
mmgnn_attempt() { echo "$run/slurm/$SLURM_JOB_ID.${1:-${SLURM_RESTART_COUNT:-0}}"; }

# Slurm may not answer for a while: nothing is decided before it does. Other failures are answers.
if type -P scontrol >/dev/null; then
  scontrol() {
    local said tries code
    for ((tries = 0; tries < 30; tries++)); do
      said=$(timeout 30 "$(type -P scontrol)" "$@" 2>&1) && { echo "$said"; return 0; } || code=$?
      [ "$code" = 124 ] || [[ $said =~ ontact|onnect|imed\ out|ocket ]] || break
      sleep 10
    done
    echo "mmgnn: Slurm did not do 'scontrol $*' (${said:-no answer}): submit it again to continue" >&2
    return 1
  }
fi

# Prints the folders of the notes of this start and of those before it, the newest first.
mmgnn_attempts() {
  local start
  if [ "${restart:-}" = successor ]; then
    tac "$run/slurm/starts.$submission" | while read -r start _; do echo "$run/slurm/$start"; done
  else
    for ((start = ${SLURM_RESTART_COUNT:-0}; start >= 0; start--)); do mmgnn_attempt $start; done
  fi
}

# Prints the jobs that were submitted to follow this one.
mmgnn_later() {
  local file=$run/slurm/successors.$submission own
  own=$(mmgnn_job)
  [ -f "$file" ] && if grep -qx "$own" "$file"; then sed "0,/^$own\$/d" "$file"; else cat "$file"; fi
}

# Ends the job for good with an exit code and, if given, words that say why. No job follows it then: those that wait are
# cancelled where this node can, and end at once where it cannot.
mmgnn_over() {
  local later
  [ -z "${2:-}" ] || echo "mmgnn: $2" >&2
  if [ "${restart:-}" = successor ]; then
    echo "${2:-ended with exit code $1}" >"$run/slurm/over.$submission"
    # shellcheck disable=SC2046
    [ -n "$(mmgnn_later)" ] && command -v scancel >/dev/null && scancel $(mmgnn_later) || true
  fi
  exit "$1"
}

# A job that follows others ends at once if the run is over, or if the user cancelled the one before it.
mmgnn_follow() {
  local before=${previous:-} state=""
  [ -n "$before" ] && [ ! -f "$run/slurm/over.$submission" ] || before=""
  before=$before${before:+${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}
  if [ -n "$before" ] && command -v scontrol >/dev/null; then
    [[ $(scontrol -o show job "$before" 2>/dev/null) =~ JobState=([A-Z]*) ]] && state=${BASH_REMATCH[1]}
  fi
  if [ -n "$before" ] && [ -z "$state" ] && command -v sacct >/dev/null; then
    state=$(sacct -n -X -P -j "$before" -o State 2>/dev/null | head -n 1)
  fi
  case $state in CANCELLED*) mmgnn_over 0 "job $before was cancelled, so this one does not continue it" ;; esac
  [ -f "$run/slurm/over.$submission" ] || return 0
  echo "mmgnn: nothing to do: $(cat "$run/slurm/over.$submission")" >&2
  exit 0
}

# Prints the step of the newest complete checkpoint, 0 without any.
mmgnn_step() {
  local file step newest=0
  for file in "$run"/checkpoints/step_*/manifest.json; do
    [ -f "$file" ] || continue
    step=${file%/manifest.json} step=$((10#${step##*step_}))
    [ "$step" -gt "$newest" ] && newest=$step
  done
  echo "$newest"
}

# Ends the job if others may write to a folder or to what it holds (its owner too, unless it is this user or root), or
# replace it: what lies in it runs as this user.
mmgnn_private() {
  local path open
  path=$(readlink -f "$1")
  open=$(find "$path" ! -type l \( -perm /022 -o ! -uid "$(id -u)" ! -uid 0 \) -print -quit) && [ -z "$open" ] || {
    echo "mmgnn: group or others may write to $open, or it is another user's: chmod -R go-w $path, or take another run directory" >&2
    exit 1
  }
  while true; do
    if [ ! -k "$path" ] && [ $((8#$(stat -c %a "$path") & 8#22)) != 0 ]; then
      echo "mmgnn: group or others may write to $path: chmod go-w it, or take another run directory" >&2
      exit 1
    fi
    [ "$path" = / ] && break
    path=$(dirname "$path")
  done
}

mmgnn_before() {
  # ranks and their srun act on a signal; the script that decides afterwards, by their notes, has to outlive it
  trap : TERM INT USR1 USR2
  umask "$(printf %04o $((8#$(umask) | 8#22)))"
  mkdir -p "$run/slurm" && mmgnn_private "$run/slurm"
  [ -z "${code:-}" ] || mmgnn_private "$(dirname "$(dirname "$code")")"
  export MMGNN_START=${SLURM_RESTART_COUNT:-0}
  if [ "${restart:-}" = successor ]; then
    mmgnn_follow
    MMGNN_START=$(cat "$run/slurm/starts.$submission" 2>/dev/null | wc -l)
  fi
  export PYTHONSAFEPATH=1 PYTHONUNBUFFERED=1 HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}" OMP_WAIT_POLICY=PASSIVE
  export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"
  # Slurm sets the end of the allocation from version 23.02 on; a job without a time limit has none
  local end
  if [ -z "${SLURM_JOB_END_TIME:-}" ] && end=$(timeout 60 squeue -h -j "$(mmgnn_job)" -o %e | grep T); then
    SLURM_JOB_END_TIME=$(date +%s -d "$end") && export SLURM_JOB_END_TIME
  fi
  [ "$MMGNN_START" -le "$max_restarts" ] ||
    mmgnn_over 1 "restarted $MMGNN_START times (max_restarts): submit it again to continue"
  # submitit writes it just after the submission, and waits a minute for it
  local task
  task=$(dirname "$(dirname "${code:-/}")")/$(mmgnn_job)_submitted.pkl
  [ "$MMGNN_START" = 0 ] || [ -z "${code:-}" ] || [ -f "$task" ] ||
    mmgnn_over 1 "$task is gone: submit it again to continue"
  mkdir -p "$(mmgnn_attempt)" && mmgnn_step >"$(mmgnn_attempt)/from"
  [ -z "${submission:-}" ] ||
    echo "$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0} $(mmgnn_job)" >>"$run/slurm/starts.$submission"
}

# Unpacks an environment on the local disk of every node: its archive, SHA-256, and the interpreter that unpacks it. A
# step keeps it there until this script closes its input. Its srun dies with this script, since one that lives on ends
# the step of this number in the next start of the job.
mmgnn_stage() {
  local parent=${TMPDIR:-/tmp} end=$((SECONDS + 1800))
  mkdir -p "$parent"
  MMGNN_STAGED=$parent/mmgnn_stage-$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}-$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')
  local dying="import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execvp(sys.argv[1], sys.argv[1:])"
  exec {staging}> >(exec env PYTHONPATH="$code" "$3" -c "$dying" srun --overlap "--nodes=$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 \
    "--ntasks=$SLURM_JOB_NUM_NODES" --cpu-bind=none --kill-on-bad-exit=1 "$3" -m mmgnn_dist.cluster.staging.unpack \
    "$1" "$2" "$MMGNN_STAGED" "$(mmgnn_attempt)")
  staged_by=$!
  trap mmgnn_unstage EXIT
  while [ "$(find "$(mmgnn_attempt)" -name 'staged_*' | wc -l)" -lt "$SLURM_JOB_NUM_NODES" ]; do
    if [ "$SECONDS" -gt "$end" ] || ! kill -0 "$staged_by" 2>/dev/null; then
      mmgnn_over 1 "the environment was not unpacked on every node: see the log of the job"
    fi
    sleep 0.2
  done
  code=$MMGNN_STAGED/code
  export MMGNN_STAGED PATH="$MMGNN_STAGED/env/bin:$PATH" PYTHONPATH="$code${PYTHONPATH:+:$PYTHONPATH}"
}

# Has every node remove its environment, and waits for that. Where the step has lost nodes, the others do it now.
mmgnn_unstage() {
  [ -n "${staging:-}" ] || return 0
  exec {staging}>&-
  staging=""
  for _ in {1..600}; do
    kill -0 "$staged_by" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL "$staged_by" 2>/dev/null
  wait "$staged_by" 2>/dev/null ||
    timeout 30 srun --overlap "--nodes=$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 "--ntasks=$SLURM_JOB_NUM_NODES" \
      --cpu-bind=none rm -rf -- "$MMGNN_STAGED"
}

# Prints how many ranks had a fault of their own: the others only lost the connection to a rank, which may have been on a
# node that is gone (`status.py` reads the notes in the same way).
mmgnn_faults() {
  local note faults=0
  while read -r note; do
    tail -n 1 "$note" | grep -qEi 'DistNetworkError|DistStoreError|connection (was )?(likely )?(closed|reset|refused)' ||
      faults=$((faults + 1))
  done < <(find "$(mmgnn_attempt)" -name 'rank_*.failed')
  echo "$faults"
}

mmgnn_notes() { find "$(mmgnn_attempt)" -name "rank_*.$1" 2>/dev/null | wc -l; }

# Prints in one line why the ranks of this start ended; its argument is what Slurm shows of the job.
mmgnn_cause() {
  local end note rank said
  # srun then ends the other ranks by a signal, so their notes say nothing
  for ((rank = 0; rank < SLURM_JOB_NUM_NODES * SLURM_NTASKS_PER_NODE; rank++)); do
    [ -f "$(mmgnn_attempt)/rank_$rank.started" ] && continue
    [[ $1 =~ StdOut=([^ ]*) ]] &&
      said=$(grep -o 'srun: error: .* task.*' "${BASH_REMATCH[1]}" | grep -Ev 'Killed|Terminated' | tail -n 1)
    echo "rank $rank did not start: ${said:-see the log of the job}"
    return
  done
  for end in hung killed failed; do
    note=$(find "$(mmgnn_attempt)" -name "rank_*.$end" -printf '%T@ %p\n' | sort | head -n 1 | cut -d ' ' -f 2-)
    if [ -n "$note" ]; then
      rank=${note##*/rank_} rank=${rank%.*}
      echo "rank $rank on $(cat "${note%.*}.started") $end: $(grep -m 1 -E '^mmgnn|^rank' "$note" || tail -n 1 "$note")"
      return
    fi
  done
  for ((rank = 0; rank < SLURM_JOB_NUM_NODES * SLURM_NTASKS_PER_NODE; rank++)); do
    note=$(mmgnn_attempt)/rank_$rank
    compgen -G "$note.*ed" | grep -qv started || [ -f "$note.done" ] ||
      { echo "rank $rank on $(cat "$note.started") ended without a word"; return; }
  done
  echo "a signal or the time limit came before the first new checkpoint: is the time limit long enough?"
}

# A rank that the others waited for twice in a row on the same node: the next start takes other nodes.
mmgnn_exclude() {
  local note late node before next
  note=$(find "$(mmgnn_attempt)" -name 'rank_*.hung' | head -n 1)
  [ -n "$note" ] && late=$(grep -o -m 1 'waited for rank [0-9]*' "$note") || return 0
  node=$(cat "$(mmgnn_attempt)/rank_${late##* }.started") && echo "$node" >"$(mmgnn_attempt)/late"
  before=$(mmgnn_attempts | sed -n 2p)/late
  [ -f "$before" ] && [ "$(cat "$before")" = "$node" ] || return 0
  for next in $([ "${restart:-}" = successor ] && mmgnn_later || mmgnn_job); do
    scontrol update "jobid=$next" "excnodelist=$node" || return 0
  done
  echo "mmgnn: ranks on $node hung twice in a row: the run goes on without this node" >&2
}

# Exits with 0 if every rank is done, and with 1 for a fault of the ranks, which would happen again. After any other
# end (saved in order, killed, hung, lost without a note) the job goes back to the queue, or leaves the run to the job
# that follows it (exit code 3): at most max_restarts times, and at most two times in a row without a newer checkpoint.
# A job that the user cancelled or Slurm preempted is no longer running and is left alone. So is a job that Slurm has
# started again because it lost this node for a while.
mmgnn_after() {
  local ended=$1 world=$((SLURM_JOB_NUM_NODES * SLURM_NTASKS_PER_NODE)) told=0 end shown="" cause step attempt idle=0
  mmgnn_unstage
  for end in done stopped failed hung killed ended; do told=$((told + $(mmgnn_notes $end))); done
  [ "$(mmgnn_notes done)" = "$world" ] && mmgnn_over 0
  if [ "$(mmgnn_notes started)" = 0 ] && [ "$ended" -lt 128 ]; then  # above: a signal came very early
    mmgnn_over 1 "no rank started (srun ended with $ended)"
  fi
  [ "$(mmgnn_faults)" -gt 0 ] && [ "$(mmgnn_notes killed)" = 0 ] && [ "$(mmgnn_notes hung)" = 0 ] &&
    [ "$told" = "$world" ] && mmgnn_over 1
  if command -v scontrol >/dev/null; then
    shown=$(scontrol -o show job "$(mmgnn_job)") || exit 1
    case $shown in
      *" JobState=RUNNING "* | *" JobState=TIMEOUT "*) ;;
      *" JobState=CANCELLED "*) mmgnn_over "$ended" "" ;;
      *) exit "$ended" ;;
    esac
    [[ $shown == *" Restarts=${SLURM_RESTART_COUNT:-0} "* ]] || exit "$ended"
  elif [ "${restart:-}" != successor ]; then
    mmgnn_over 1 "this node has no scontrol to send the job back to the queue: set restart: successor in the profile"
  fi
  cause=$(mmgnn_cause "$shown") step=$(mmgnn_step)
  # a job that is being preempted has no part in it
  [[ $shown == *" PreemptTime="[0-9]* ]] || echo "$cause" >"$(mmgnn_attempt)/again"
  for attempt in $(mmgnn_attempts); do
    [ -f "$attempt/again" ] && [ "$(cat "$attempt/from")" = "$step" ] || break
    idle=$((idle + 1))
  done
  if [ "$idle" -gt 2 ]; then
    mmgnn_over 1 "$idle starts in a row without a checkpoint after step $step: $cause"
  fi
  if [ "$MMGNN_START" -ge "$max_restarts" ]; then
    mmgnn_over 1 "restarted $max_restarts times (max_restarts), last $cause: submit it again to continue"
  fi
  mmgnn_exclude
  if [ "${restart:-}" = successor ]; then
    [ -n "$(mmgnn_later)" ] || mmgnn_over 1 "no job is left to follow this one, last $cause: submit it again to continue"
    exit 3
  fi
  scontrol requeue "$(mmgnn_job)" ||
    mmgnn_over 1 "the job did not go back to the queue: submit it again; where none may, set restart: successor in the profile"
  sleep 60
}
