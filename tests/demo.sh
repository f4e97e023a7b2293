#!/usr/bin/env bash
# The demonstration: three sites that nobody may leave, each with a buffer of
# its own; agents' files go into the buffers; the centre fetches them all.
# Every file is then compared with what its agent sent.
#
# Needs the release build (`make demo` makes it), bash 5 and coreutils.
# DEMO_PORT: the TCP port of the three buffers (41121).
set -euo pipefail
export LC_ALL=C
# What a shell has set for the programs of this project shall not steer these.
unset "${!TENTACLE_@}"

project=$(cd "$(dirname "$0")/.." && pwd)
programs=${CARGO_TARGET_DIR:-$project/target}/release
port=${DEMO_PORT:-41121}
hosts=20
sites=(site1 site2 site3)
declare -A address=([site1]=127.0.0.11 [site2]=127.0.0.12 [site3]=127.0.0.13)

main() {
    for program in tentacle_server tentacle_client tentacle-sync-puller; do
        [ -x "$programs/$program" ] || fail "$programs/$program is not there: run 'make demo', which builds it"
    done
    place=$(mktemp -d)
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    mkdir "$place/incoming"

    say "1. Three sites, a buffer on each (tentacle_server -I -o), empty"
    for site in "${sites[@]}"; do start_buffer "$site"; done
    for site in "${sites[@]}"; do await_buffer "$site"; done

    say "2. Agents write their files and hand them to the buffer of their site (tentacle_client)"
    for site in "${sites[@]}"; do write_agent_files "$site"; done
    for site in "${sites[@]}"; do send "$site"; done

    say "3. The centre opens the connections and fetches everything (tentacle-sync-puller --once)"
    collect

    say "4. What arrived, compared with what was sent"
    report
}

start_buffer() {
    local site=$1
    mkdir "$place/$site" "$place/$site.spool"
    "$programs/tentacle_server" -I -o -a "${address[$site]}" -p "$port" -s "$place/$site.spool" \
        -l "$place/$site.log" </dev/null >"$place/$site.out" 2>&1 &
    process[$site]=$!
}

await_buffer() {
    local site=$1 tries
    for ((tries = 0; tries < 500; tries++)); do
        if grep -qs listening "$place/$site.log"; then
            printf '   %s  listens on %s:%s\n' "$site" "${address[$site]}" "$port"
            return
        fi
        kill -0 "${process[$site]}" 2>/dev/null ||
            fail "the buffer of $site did not start: $(cat "$place/$site.out") (DEMO_PORT=… make demo takes another port)"
        sleep 0.02
    done
    fail "the buffer of $site did not listen within 10 s: $(cat "$place/$site.out")"
}

# Real files of an agent, each under the name of a host of its own, so that no
# two have the same content.
write_agent_files() {
    local site=$1 host number from serial
    for ((number = 1; number <= hosts; number++)); do
        host=$site-host$(printf '%02d' "$number")
        for from in "$project"/tests/data/agent/*.data; do
            serial=${from%.data}
            serial=${serial##*.}
            sed "s/ agent_name='[^']*' agent_alias='[^']*'/ agent_name='$host' agent_alias='$host'/" \
                "$from" >"$place/$site/$host.$serial.data"
        done
    done
    digests "$place/$site" "$site" >"$place/$site.sent"
    [ -z "$(cut -d' ' -f1 "$place/$site.sent" | sort | uniq -d)" ] || fail "two agent files of $site are the same"
}

send() {
    local site=$1 began=$EPOCHREALTIME
    local files=("$place/$site"/*.data)
    "$programs/tentacle_client" -a "${address[$site]}" -p "$port" "${files[@]}" >"$place/client.out" 2>&1 ||
        fail "tentacle_client could not send the files of $site: $(cat "$place/client.out")"
    printf '   %s  %s files in %s s\n' "$site" "${#files[@]}" "$(seconds_since "$began")"
}

collect() {
    local site status=0 list watching=()
    list=$(for site in "${sites[@]}"; do printf ', %s' "${address[$site]}"; done)
    cat >"$place/pandora_server.conf" <<CONF
syncserver 1
sync_address ${list#, }
sync_port $port
incomingdir $place/incoming
CONF
    sed -n 's/^sync_address/   sync_address/p' "$place/pandora_server.conf"
    mkfifo "$place/quiet"
    for site in "${sites[@]}"; do
        time_arrival "$site" &
        watching+=($!)
    done
    timeout 50 "$programs/tentacle-sync-puller" -F "$place/pandora_server.conf" --once \
        </dev/null >"$place/puller.out" 2>&1 || status=$?
    touch "$place/ended"
    wait "${watching[@]}"
    [ "$status" -eq 0 ] || fail "tentacle-sync-puller ended with $status; its last lines: $(tail -n 5 "$place/puller.out")"
}

# Notes when the last file of a site is in the incoming folder.
time_arrival() {
    local site=$1 began=$EPOCHREALTIME expected arrived ended=
    expected=$(wc -l <"$place/$site.sent")
    shopt -s nullglob
    until [ -n "$ended" ]; do
        # Looked at first, so that the last count is taken after the end.
        [ ! -e "$place/ended" ] || ended=1
        arrived=("$place/incoming/$site"-*.data)
        if [ "${#arrived[@]}" -ge "$expected" ]; then
            seconds_since "$began" >"$place/$site.seconds"
            return
        fi
        # A wait that starts no process: nobody writes into this pipe.
        read -rt 0.01 <>"$place/quiet" || true
    done
}

report() {
    local site files bytes left digests equal wrong=0 arrived foreign
    printf '\n   %-6s  %6s  %9s  %8s  %14s  %s\n' site files bytes seconds 'left in buffer' digests
    for site in "${sites[@]}"; do
        digests "$place/incoming" "$site" >"$place/$site.arrived"
        arrived=$(wc -l <"$place/$site.arrived")
        bytes=$(find "$place/incoming" -maxdepth 1 -type f -name "$site-*" -printf '%s\n' | add_up)
        left=$(find "$place/$site.spool" -type f ! -name '.tentacle~lock' | wc -l)
        files=$(wc -l <"$place/$site.sent")
        equal=$(sort "$place/$site.sent" "$place/$site.arrived" | uniq -d | wc -l)
        digests="all $files equal"
        [ "$equal" -eq "$files" ] || digests="DIFFERENT: $equal of $files equal"
        [ "$equal" -eq "$files" ] && [ "$arrived" -eq "$files" ] && [ "$left" -eq 0 ] || wrong=1
        printf '   %-6s  %6s  %9s  %8s  %14s  %s\n' \
            "$site" "$arrived" "$bytes" "$(cat "$place/$site.seconds" 2>/dev/null || echo -)" "$left" "$digests"
    done
    foreign=$(find "$place/incoming" -maxdepth 1 -type f ! -name '.*' ! -name 'site[123]-*' | wc -l)
    [ "$foreign" -eq 0 ] || fail "$foreign files in the incoming folder were sent by nobody"
    [ "$wrong" -eq 0 ] || fail "something was lost, torn, doubled or left: see the table"
    printf '\n   Every file arrived whole and once, and every buffer is empty.\n'
}

# A line a file of a site: its digest and its name, in the order of the names.
digests() {
    (cd "$1" && find . -maxdepth 1 -type f -name "$2-*" -print0 | sort -z | xargs -0 -r sha256sum)
}

add_up() {
    local sum=0 number
    while read -r number; do sum=$((sum + number)); done
    echo "$sum"
}

seconds_since() {
    local micros=$((${EPOCHREALTIME/./} - ${1/./}))
    printf '%d.%02d\n' $((micros / 1000000)) $((micros / 10000 % 100))
}

say() { printf '\n%s\n' "$*"; }

fail() {
    printf '\nmake demo: %s\n' "$*" >&2
    exit 1
}

clean_up() {
    # The watchers of a collection that was broken off.
    touch "$place/ended"
    [ "${#process[@]}" -eq 0 ] || kill "${process[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$place"
}

declare -A process=()
main "$@"
