
# What follows waits for jobs, or reads and writes as a guest does, so the monitor gets its requests
# one after the other, by these.
mkfifo requests && : >replies || exit 2
trap '' PIPE
$QSD $ARGUMENTS "$@" <requests >replies 2>errors &
daemon=$!
exec 3>requests
lost=

# tell REQUEST: hand a request to the monitor
tell() {
    printf '%s\n' "$1" >&3
} 2>/dev/null

# reply ID: the line that answers a request
reply() {
    grep -F -e "\"id\": \"$1\"" replies | head -n 1
}

# ask ID EXECUTE ARGUMENTS: wait for the reply, ten seconds at most and while the daemon lives
ask() {
    [ -z "$lost" ] || return 1
    tell "{\"execute\": \"$2\", \"arguments\": $3, \"id\": \"$1\"}"
    tries=0
    until grep -q -F -e "\"id\": \"$1\"" replies; do
        tries=$((tries + 1))
        if [ "$tries" -gt 100 ] || ! kill -0 "$daemon" 2>/dev/null; then
            lost=yes
            return 1
        fi
        sleep 0.1
    done
}

# reach STEP JOB STATUS PROGRESS: wait until a job has come to a status and worked through so much
reach() {
    case $2 in
    /*) leave "$@"; return 0 ;;
    esac
    asked=0
    status=unknown
    while [ "$asked" -lt 100 ]; do
        asked=$((asked + 1))
        ask "$1-$asked" query-jobs '{}' || return 0
        job=$(reply "$1-$asked" | tr '}' '\n' | grep -F -e "\"id\": \"$2\"")
        status=$(printf '%s\n' "$job" | sed -n 's/.*"status": "\([a-z]*\)".*/\1/p')
        status=${status:-null}
        so_far=$(printf '%s\n' "$job" | sed -n 's/.*"current-progress": \([0-9]*\).*/\1/p')
        if [ "$status" = "$3" ] && [ "${so_far:-0}" -ge "$4" ]; then
            printf '{"return": {"status": "%s"}}\n' "$status" >"$1.shown"
            return 0
        fi
        sleep 0.1
    done
    printf "the job '%s' is %s\n" "$2" "$status" >"$1.shown"
}

# leave STEP DEVICE STATUS: wait until a device is gone, ten seconds at most
leave() {
    # There may have been others at this place, which were waited for.
    printf '%s\n' "$2" >>left
    asked=0
    until [ "$(grep -F -e '"DEVICE_DELETED"' replies | grep -c -F -e "\"path\": \"$2\"")" -ge \
        "$(grep -c -F -x -e "$2" left)" ]; do
        asked=$((asked + 1))
        if [ "$asked" -gt 100 ] || ! kill -0 "$daemon" 2>/dev/null; then
            printf "the device '%s' is still there\n" "$2" >"$1.shown"
            return 0
        fi
        sleep 0.1
    done
    printf '{"return": {"status": "%s"}}\n' "$3" >"$1.shown"
}

# refused ID STEP: whether a request was refused, which is then what the step shows
refused() {
    reply "$1" | grep -F '"error": ' >"$2.shown" || { rm -f "$2.shown"; return 1; }
}

# export_node STEP NODE WRITABLE SOCKET: let qemu-img or qemu-io be a guest of a node
export_node() {
    if [ -z "$4" ]; then
        ask "$1-server" nbd-server-start \
            '{"addr": {"type": "unix", "data": {"path": "reopencheck.sock"}}}' || return 1
        ! refused "$1-server" "$1" || return 1
    fi
    ask "$1-export" block-export-add "{\"type\": \"nbd\", \"id\": \"reopencheck\",
        \"name\": \"reopencheck\", \"node-name\": $2, \"writable\": $3}" || return 1
    ! refused "$1-export" "$1" || { withdraw "$1" "$4"; return 1; }
    disk="nbd+unix:///reopencheck?socket=${4:-reopencheck.sock}"
}

# withdraw STEP SOCKET: end what export_node began
withdraw() {
    if [ -z "$2" ]; then
        ask "$1-end" nbd-server-stop '{}'
        return 0
    fi
    ask "$1-end" block-export-del '{"id": "reopencheck", "mode": "hard"}' || return 0
    asked=0
    while [ "$asked" -lt 100 ]; do
        asked=$((asked + 1))
        ask "$1-exports-$asked" query-block-exports '{}' || return 0
        reply "$1-exports-$asked" | grep -q -F '"id": "reopencheck"' || return 0
        sleep 0.1
    done
}

# runs: standard input as the runs of bytes that are not zero: [[start, end, value], ...]
runs() {
    od -A d -t u1 | awk '
    BEGIN { at = 0; value = 0 }
    function end_run() {
        if (value) { list = list (list ? ", " : "") "[" start ", " at ", " value "]" }
    }
    function put(byte, upto) {
        if (byte != value) { end_run(); value = byte; start = at }
        at = upto
    }
    /^\*/ { next }
    {
        # Rows that od left out are like the one before.
        while (at < $1 + 0) {
            if (same) { put(row[1], $1 + 0) } else { for (i = 1; i <= 16; i++) put(row[i], at + 1) }
        }
        same = NF > 1
        for (i = 2; i <= NF; i++) {
            row[i - 1] = $i + 0
            if ($i != $2) { same = 0 }
            put($i + 0, at + 1)
        }
    }
    END { end_run(); print "{\"return\": [" list "]}" }'
}

# read_node STEP NODE SOCKET: all that a guest of a node reads
read_node() {
    export_node "$1" "$2" false "$3" || return 0
    if $QEMU_IMG convert -f raw -O raw "$disk" reopencheck.data 2>"$1.shown"; then
        runs <reopencheck.data >"$1.shown"
    fi
    rm -f reopencheck.data
    withdraw "$1" "$3"
}

# write_node STEP NODE OFFSET LENGTH PATTERN SOCKET: write as a guest of a node does
write_node() {
    export_node "$1" "$2" true "$6" || return 0
    if $QEMU_IO -f raw -c "write -P $5 $3 $4" "$disk" >"$1.shown" 2>&1; then
        echo '{"return": {}}' >"$1.shown"
    fi
    withdraw "$1" "$6"
}

