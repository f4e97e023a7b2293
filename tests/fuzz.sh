#!/bin/sh
# Feeds the targets of services/*/fuzz with what nobody would send.
#
# Usage: tests/fuzz.sh SECONDS [TARGET…]
#
# Each target has so many seconds, FUZZ_JOBS targets at once (default 1). What
# fails lies in services/CRATE/fuzz/artifacts/TARGET: once it is mended, it
# belongs into services/CRATE/fuzz/corpus/TARGET, which `make test` replays.
# FUZZ_SEED is libFuzzer's seed (default: a new one, which its log names).
set -eu
cd "$(dirname "$0")/.."

die() {
    echo "tests/fuzz.sh: $*" >&2
    exit 2
}

# All targets, as CRATE/TARGET.
all() {
    for file in services/*/fuzz/targets/*.rs; do
        echo "$file" | sed -E 's|services/(.*)/fuzz/targets/(.*)\.rs|\1/\2|'
    done
}

# No unsafe code of ours is here to be watched: without a sanitizer, twice as
# much is tried in the same time.
build() {
    # The versions that the workspace has; cargo leaves out what is not needed.
    [ -f "services/$1/fuzz/Cargo.lock" ] || cp Cargo.lock "services/$1/fuzz/Cargo.lock"
    cargo +nightly fuzz build --fuzz-dir "services/$1/fuzz" --target-dir "$target" --sanitizer none \
        >"$work/$1.log" 2>&1 || {
        tail -n 30 "$work/$1.log" >&2
        die "services/$1/fuzz does not build"
    }
}

# Runs CRATE/TARGET, and writes what came of it into a file.
run() {
    name=${1#*/} fuzz=services/${1%/*}/fuzz
    artifacts=$fuzz/artifacts/$name
    mkdir -p "$work/$name" "$artifacts"
    status=0
    # What is found on the way stays beside the build, for the next run.
    "$target/$host/release/$name" "$work/$name" "$fuzz/corpus/$name" -max_total_time="$seconds" \
        ${FUZZ_SEED:+-seed="$FUZZ_SEED"} -timeout=30 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="$artifacts/" </dev/null >"$work/$name.log" 2>&1 || status=$?
    tried=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$name.log")
    if [ "$status" = 0 ]; then
        echo "$name: ${tried:-0} executions"
    else
        echo "$name: A FINDING in $artifacts (log: $work/$name.log)"
    fi
    echo "${tried:-0} $status" >"$work/$name.result"
}

case ${1:-} in
'' | 0 | *[!0-9]*) die 'how many seconds for each target? (tests/fuzz.sh SECONDS [TARGET…])' ;;
esac
seconds=$1
shift

PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
command -v cargo-fuzz >/dev/null || die 'cargo-fuzz is missing (cargo install --locked cargo-fuzz)'
host=$(rustc +nightly -vV 2>/dev/null | sed -n 's/^host: //p')
[ -n "$host" ] || die 'the nightly toolchain is missing (rustup toolchain install nightly --profile minimal)'
target=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
work=$target/work
mkdir -p "$work"
# Two runs would write into each other's logs.
exec 9>"$work/lock"
flock -n 9 || die "another run is at work in $work"

targets=$(all)
if [ $# -gt 0 ]; then
    wanted=
    for name; do
        found=$(echo "$targets" | grep "/$name\$") || die "$name: no such target (there are: $(echo "$targets" | sed 's|.*/||' | xargs))"
        wanted="$wanted $found"
    done
    targets=$wanted
fi
for crate in $(for one in $targets; do echo "${one%/*}"; done | sort -u); do
    build "$crate"
done

# So many at once, each in a queue of its own.
jobs=${FUZZ_JOBS:-1}
job=0
while [ "$job" -lt "$jobs" ]; do
    at=0
    for one in $targets; do
        [ $((at % jobs)) -ne "$job" ] || run "$one"
        at=$((at + 1))
    done &
    job=$((job + 1))
done
wait

executions=0 count=0 findings=0
for one in $targets; do
    read -r tried status <"$work/${one#*/}.result"
    executions=$((executions + tried)) count=$((count + 1))
    [ "$status" = 0 ] || findings=$((findings + 1))
done
echo "counted: $executions fuzz executions, $count targets, $findings findings"
[ "$findings" = 0 ]
