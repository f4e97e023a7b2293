#!/usr/bin/env bash
# Makes sure that Rust programs can be built here: says where Rust comes from
# if it is missing, and installs the C compiler that Rust links with. With the
# argument `tests`, also that the tests can mount file systems of their own.
set -euo pipefail

fail() {
    echo "error: $*" >&2
    exit 1
}

# Linking asks for the C library's start files too, which are a package of
# their own: a compiler alone can be there without them.
can_link() {
    local program
    program=$(mktemp)
    echo 'int main(void) { return 0; }' | cc -x c -o "$program" - 2>/dev/null
    local status=$?
    rm -f "$program"
    return "$status"
}

command -v cargo >/dev/null ||
    fail "cargo is not installed: get Rust 1.95 or newer from https://rustup.rs, then try again"

# Tests of full disks mount a small one, in a namespace of their own.
if [ "${1:-}" = tests ]; then
    unshare --map-root-user --mount true 2>/dev/null ||
        fail "the tests may not mount a file system of their own: run them as root, or allow user namespaces (on Ubuntu: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0)"
fi

can_link && exit 0

command -v apt-get >/dev/null ||
    fail "no C compiler that links (cc): install gcc and the C library's headers by this system's package tool, then try again"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null ||
        fail "no C compiler that links (cc), and no sudo to install it: run 'apt-get install gcc libc6-dev' as root, then try again"
    as_root=(sudo)
fi
echo "installing gcc and libc6-dev, which Rust links with"
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev)
"${install[@]}" </dev/null >/dev/null 2>&1 || {
    # The package lists of a fresh machine are empty or old.
    "${as_root[@]}" apt-get update -qq </dev/null
    "${install[@]}" </dev/null >/dev/null
} || fail "apt-get could not install gcc and libc6-dev: see its message above"
can_link || fail "gcc is installed, but cc cannot link a program: look at 'cc --version'"
