#!/usr/bin/env bash
# Runs Python, with its arguments, in a virtual environment that has what
# tests/chart/requirements.txt names. It is kept from one run to the next, and
# made anew when that file changes.
set -euo pipefail

tests=$(cd "$(dirname "$0")" && pwd)
"$tests/toolchain.sh" python

place=${XDG_CACHE_HOME:-$HOME/.cache}/tentacle-tests
mkdir -p "$place" 2>/dev/null || {
    place=$tests/../target/tentacle-tests
    mkdir -p "$place"
}
environment=$place/venv
wanted=$(python3 --version; cat "$tests/chart/requirements.txt")

# Another run may be making it.
exec 9>"$place/lock"
flock 9
if [ "$(cat "$environment/made-of" 2>/dev/null)" != "$wanted" ]; then
    echo "making a virtual environment for the tests in $environment"
    rm -rf "$environment"
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check --requirement "$tests/chart/requirements.txt" || {
        echo "error: pip could not install what $tests/chart/requirements.txt names: see its message above" >&2
        exit 1
    }
    printf '%s\n' "$wanted" >"$environment/made-of"
fi
flock -u 9
exec 9>&-

# What a shell has set for the programs of this project shall not steer these.
unset "${!TENTACLE_@}" "${!OTEL_@}"
export PYTHONDONTWRITEBYTECODE=1
exec "$environment/bin/python" "$@"
