#!/usr/bin/env bash
# Runs every command of docs/reliability.md, and says of each whether it held.
# With arguments, only the commands that hold all of those words.
#
# What needs a cluster runs where KUBERNETES_LOAD says how images get into one.
set -uo pipefail
cd "$(dirname "$0")/.."
log=$PWD/target/reliability.log
mkdir -p target
: >"$log"
status=0
mapfile -t commands < <(sed -n '/^```sh$/,/^```$/p' docs/reliability.md | grep -v '^```')
[ "${#commands[@]}" -gt 0 ] || { echo "error: docs/reliability.md holds no command" >&2; exit 1; }
"${CARGO:-cargo}" build --quiet --release --workspace --bins || exit 1
for command in "${commands[@]}"; do
    for word in "$@"; do
        [[ $command == *"$word"* ]] || continue 2
    done
    case $command in
        'make images' | *kubernetes*)
            [ -n "${KUBERNETES_LOAD:-}" ] || { echo "not run, as there is no cluster: $command"; continue; }
            ;;
    esac
    from=$SECONDS
    echo "== $command" >>"$log"
    if $command >>"$log" 2>&1 </dev/null; then
        echo "held, $((SECONDS - from)) s: $command"
    else
        echo "BROKEN, $((SECONDS - from)) s: $command (see $log)"
        status=1
    fi
done
exit "$status"
