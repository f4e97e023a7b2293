#!/usr/bin/env bash
# Makes sure that Rust programs can be built here: says where Rust comes from
# if it is missing, and installs the C compiler that Rust links with. With the
# argument `tests`, also what tests need: openssl, which makes certificates
# and is the other side of TLS, promtool, which checks metrics, strace, which
# sees and fails what programs ask of the system, and leave to mount file
# systems of their own;
# with `bench`, haproxy too, which the proxy is measured beside. With the
# argument `python`, that Python can make virtual environments, and
# nothing else.
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

can_make_environments() {
    python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

missing=()
if [ "${1:-}" = python ]; then
    can_make_environments || missing+=(python3 python3-venv)
else
    command -v cargo >/dev/null ||
        fail "cargo is not installed: get Rust 1.95 or newer from https://rustup.rs, then try again"
    can_link || missing+=(gcc libc6-dev)
fi
if [ "${1:-}" = tests ] || [ "${1:-}" = bench ]; then
    # Tests of full disks mount a small one, in a namespace of their own.
    unshare --map-root-user --mount true 2>/dev/null ||
        fail "the tests may not mount a file system of their own: run them as root, or allow user namespaces (on Ubuntu: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0)"
    command -v openssl >/dev/null || missing+=(openssl)
fi
if [ "${1:-}" = tests ]; then
    command -v promtool >/dev/null || missing+=(prometheus)
    command -v strace >/dev/null || missing+=(strace)
fi
if [ "${1:-}" = bench ]; then
    command -v haproxy >/dev/null || missing+=(haproxy)
fi
[ "${#missing[@]}" -gt 0 ] || exit 0
packages="${missing[*]}"

command -v apt-get >/dev/null ||
    fail "missing: $packages. Install them by this system's package tool, then try again"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null ||
        fail "missing: $packages, and no sudo to install them: run 'apt-get install $packages' as root, then try again"
    as_root=(sudo)
fi
echo "installing $packages"
# shellcheck disable=SC2206
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages)
"${install[@]}" </dev/null >/dev/null 2>&1 || {
    # The package lists of a fresh machine are empty or old.
    "${as_root[@]}" apt-get update -qq </dev/null
    "${install[@]}" </dev/null >/dev/null
} || fail "apt-get could not install $packages: see its message above"
if [ "${1:-}" = python ]; then
    can_make_environments || fail "python3 is older than 3.10, or cannot make virtual environments: look at 'python3 --version' and 'python3 -m venv --help'"
    exit 0
fi
can_link || fail "gcc is installed, but cc cannot link a program: look at 'cc --version'"
