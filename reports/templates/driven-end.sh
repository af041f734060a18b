exec 3>&-
(sleep 10; kill -9 "$daemon") >/dev/null 2>&1 &
watch=$!
wait "$daemon"
status=$?
daemon=
kill "$watch" 2>/dev/null
