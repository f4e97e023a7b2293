#!/usr/bin/env bash
# Tries to break the promises for half an hour, on the release build: what each
# part counted stands in its last lines. Their logs are in target/torture.
#
#   TORTURE_SEEDS       worlds of the simulated network [default: 10000]
#   TORTURE_CASES       of the disk that crashes, each [default: 20000]
#   TORTURE_SENDS       files of each of a hundred senders against a quota [default: 100]
#   TORTURE_SESSIONS    of the receiver beside its model [default: 5000]
#   TORTURE_FUZZ        seconds of each fuzz target [default: 30]
#   TORTURE_KILLS       of receiver, puller and client under load [default: 60]
#   TORTURE_SECONDS     of mixed load [default: 1200]
#   TORTURE_SEED        the first seed of all that draws lots [default: 41121]
#   TORTURE_PREVIOUS    the commit whose programs stand for the version before
#                       [default: the newest tag, else the one 25 commits ago]
#   TORTURE_PROGRAMS    the folder of that version's programs, where they are
#                       built already
set -uo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
logs=$PWD/target/torture
cargo=${CARGO:-cargo}
began=$SECONDS
status=0
rm -rf "$logs"
mkdir -p "$logs"

export TORTURE_SEED=${TORTURE_SEED:-41121}
seconds=${TORTURE_SECONDS:-1200}
unset TORTURE_SECONDS

# Runs a part, its log in a file of its own.
part() {
    local name=$1 from=$SECONDS
    shift
    if "$@" >"$logs/$name.log" 2>&1; then
        echo "  $name: held, $((SECONDS - from)) s"
    else
        echo "  $name: BROKEN, $((SECONDS - from)) s: see $logs/$name.log" >&2
        echo "$name" >>"$logs/broken"
    fi
}

# One after another, each with what it prints.
tests() {
    "$cargo" test --quiet --release "$@" -- --nocapture --test-threads=1
}

# Builds the programs of another commit, in a folder of their own.
previous() {
    [ -z "${TORTURE_PROGRAMS:-}" ] || return 0
    local commit tree=$target/torture/previous
    commit=${TORTURE_PREVIOUS:-$(git describe --tags --abbrev=0 HEAD^ 2>/dev/null || git rev-parse --verify --quiet HEAD~25)} || {
        echo "there is no version before this one: TORTURE_PREVIOUS names a commit" >&2
        return 1
    }
    if [ "$(cat "$target/torture/built" 2>/dev/null)" != "$(git rev-parse "$commit")" ]; then
        rm -rf "$tree"
        mkdir -p "$tree"
        git archive "$commit" | tar -x -C "$tree" || return 1
        CARGO_TARGET_DIR=$target/torture/programs "$cargo" build --quiet --release --workspace --bins --manifest-path "$tree/Cargo.toml" || return 1
        git rev-parse "$commit" >"$target/torture/built"
    fi
}

quotas() {
    TORTURE_SENDS=${TORTURE_SENDS:-100} tests -p tests --test limits
}

disks() {
    export TORTURE_CASES=${TORTURE_CASES:-20000}
    tests -p spool && tests -p sync-puller --lib incoming::
}

simulated() {
    TORTURE_SEEDS=${TORTURE_SEEDS:-10000} tests -p simulation --features simulation
}

echo "building"
"$cargo" build --quiet --release --workspace --bins &&
    "$cargo" test --quiet --release --no-run -p spool &&
    "$cargo" test --quiet --release --no-run -p sync-puller --lib &&
    "$cargo" test --quiet --release --no-run -p tests &&
    "$cargo" test --quiet --release --no-run -p simulation --features simulation &&
    previous || exit 1
echo "built in $((SECONDS - began)) s"

began=$SECONDS
part simulation simulated &
part order tests -p tests --test order
part faults tests -p tests --test disk_faults
part limits quotas
part disk disks
TORTURE_SESSIONS=${TORTURE_SESSIONS:-5000} part model tests -p tests --test model
TENTACLE_KILLS=${TORTURE_KILLS:-60} TENTACLE_KILL_SEED=$TORTURE_SEED part kills tests -p tests --test crash
TORTURE_OTHER_PROGRAMS=${TORTURE_PROGRAMS:-$target/torture/programs/release} part versions tests -p tests --test versions
part fuzz tests/fuzz.sh "${TORTURE_FUZZ:-30}"
wait
# Alone: it compares how long agents wait.
TORTURE_SECONDS=$seconds part soak tests -p tests --test soak

echo
echo "In $(((SECONDS - began + 59) / 60)) minutes:"
sed -n 's/^.*counted: /  /p' "$logs"/*.log
if [ -e "$logs/broken" ]; then
    echo "BROKEN: $(paste -sd ' ' "$logs/broken")" >&2
    status=1
fi
exit "$status"
