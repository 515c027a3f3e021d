#!/usr/bin/env bash
# dbench plays the file operations of a file server's clients, and stops at the first that answers otherwise.
. "$(dirname "$0")/lib.sh"
[ "$phase" = run ] || exit 0
loadfile=$(dpkg -L dbench | grep -m 1 '/client.txt')
dbench -D "$dir" -t "${MILLRACE_DBENCH_SECONDS:-6}" -c "$loadfile" 4 >"$scratch/dbench.log" 2>&1 || { tail -20 "$scratch/dbench.log"; fail 'dbench'; }
grep '^Throughput' "$scratch/dbench.log"
! grep -E 'ERROR|failed \(' "$scratch/dbench.log" || fail 'dbench met an error'
