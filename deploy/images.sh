#!/usr/bin/env bash
# Builds this machine's images, by docker, buildah or podman, whichever works
# here, and saves each as an archive: target/images/NAME.tar, with the image
# NAME:VERSION, as the chart calls it. No registry is asked for anything.
#
#   deploy/images.sh            programs, images, archives
#   deploy/images.sh programs   the programs alone, in dist/
set -euo pipefail
cd "$(dirname "$0")/.."

images=(tentacle-receiver tentacle-proxy tentacle-sync-puller tentacle)
build=${CARGO_TARGET_DIR:-$PWD/target}/images-build

fail() {
    echo "error: $*" >&2
    exit 1
}

case ${1:-all} in
    all | programs) ;;
    *) fail "$1: not known: say nothing for all, or 'programs'" ;;
esac
case $(uname -s)-$(uname -m) in
    Linux-x86_64) architecture=amd64 ;;
    Linux-aarch64) architecture=arm64 ;;
    *) fail "images are for Linux on x86_64 and aarch64, and are built on the same: this is $(uname -s) on $(uname -m)" ;;
esac
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

# With the C library inside: nothing else is in the image. Cargo builds the
# compiler's own plugins without it, as the target is named.
build_programs() {
    local target name dist=dist/$architecture
    target=$(rustc -vV | sed -n 's/^host: //p')
    RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" "${CARGO:-cargo}" build --quiet --locked --profile image \
        --target "$target" --target-dir "$build" "${images[@]/#/--bin=}"
    rm -rf "$dist"
    mkdir -p "$dist" dist/empty
    for name in "${images[@]}"; do
        is_static "$build/$target/image/$name" ||
            fail "$build/$target/image/$name: not a static program: is the C library's archive (libc.a) installed?"
        [ "$name" = tentacle ] || install -m 755 "$build/$target/image/$name" "$dist/$name"
    done
    # It is the program that it is called by.
    install -D -m 755 "$build/$target/image/tentacle" "$dist/tentacle/tentacle_client"
    ln -s tentacle_client "$dist/tentacle/tentacle_server"
}

# A program that needs others names an interpreter.
is_static() {
    ! LC_ALL=C grep -aqE '/lib(64)?/ld-(linux|musl)' "$1"
}

# A place of its own for buildah and podman, and the driver that works in every
# file system: the images of others on this machine are left alone.
own_place() {
    local program=$1
    shift
    "$program" --root "$build/containers" --runroot "$build/containers-run" --storage-driver vfs "$@"
}

find_builder() {
    if command -v docker >/dev/null && timeout 20 docker info >/dev/null 2>&1; then
        echo docker
    elif command -v buildah >/dev/null; then
        echo buildah
    elif command -v podman >/dev/null; then
        echo podman
    else
        fail "no builder of images: install docker, buildah or podman (Debian, Ubuntu: apt-get install buildah)"
    fi
}

build_image() {
    local name=$1 archive=$2 about=()
    about=(--build-arg "VERSION=$version" --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)")
    # Named here for a builder that does not by itself.
    about+=(--build-arg "TARGETARCH=$architecture" --target "$name" --file Dockerfile)
    rm -f "$archive"
    case $builder in
        docker)
            DOCKER_BUILDKIT=1 docker build --quiet "${about[@]}" --tag "$name:$version" . &&
                docker save --output "$archive" "$name:$version"
            ;;
        buildah)
            own_place buildah bud --quiet --isolation chroot "${about[@]}" --tag "$name:$version" . &&
                own_place buildah push --quiet "$name:$version" "docker-archive:$archive:$name:$version"
            ;;
        podman)
            own_place podman build --quiet --isolation chroot "${about[@]}" --tag "$name:$version" . &&
                own_place podman save --quiet --format docker-archive --output "$archive" "$name:$version"
            ;;
    esac
}

build_programs
[ "${1:-all}" = all ] || exit 0
builder=$(find_builder)
mkdir -p target/images
for name in "${images[@]}"; do
    build_image "$name" "target/images/$name.tar" >"$build/$name.log" 2>&1 || {
        cat "$build/$name.log" >&2
        fail "$builder could not build $name: see its message above"
    }
done
# The archives are what is kept: every run would leave its images there else.
[ "$builder" = docker ] || own_place "$builder" rmi --all --force >/dev/null
