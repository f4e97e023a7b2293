#!/usr/bin/env bash
# Makes the secrets of compose.yaml in secrets/: a password, a CA, and for each
# of the three sides a certificate with its key.
#
#   ./secrets.sh [ADDRESS...]   addresses or names that the receiver is also known by
set -euo pipefail
cd "$(dirname "$0")"

fail() {
    echo "error: $*" >&2
    exit 1
}

[ ! -e secrets ] || fail "$PWD/secrets is there: remove it to have new ones"
case $(openssl version 2>/dev/null) in
    "OpenSSL 3"* | "OpenSSL 4"*) ;;
    *) fail "openssl is missing, or older than 3: install it, then try again" ;;
esac
made=$(mktemp -d "$PWD/.secrets-XXXXXX")
trap 'rm -rf "$made"' EXIT

certificate() {
    local name=$1
    shift
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=$name" "$@" \
        -keyout "$made/$name.key" -out "$made/$name.crt" 2>"$made/said" || fail "openssl could not make the certificate of $name: $(cat "$made/said")"
}

openssl rand -hex 24 >"$made/password"
certificate ca -addext basicConstraints=critical,CA:TRUE
cp "$made/ca.crt" "$made/ca.pem"
for name in receiver agent centre; do
    names=DNS:$name
    if [ "$name" = receiver ]; then
        for address in "$@"; do
            case $address in
                *[!0-9.]*) names+=,DNS:$address ;;
                *) names+=,IP:$address ;;
            esac
        done
    fi
    certificate "$name" -CA "$made/ca.crt" -CAkey "$made/ca.key" -addext basicConstraints=critical,CA:FALSE -addext "subjectAltName=$names"
    cat "$made/$name.crt" "$made/$name.key" >"$made/$name.pem"
done
# Nobody signs any more: other sides get new secrets, all of them.
rm -f "$made"/*.key "$made"/*.crt "$made/said"

# Compose shows a container the file as it is, and the programs run there as a
# user that this machine does not have: the folder keeps everybody else out.
chmod 444 "$made"/*
chmod 700 "$made"
mv "$made" secrets
trap - EXIT
