#!/usr/bin/env bash
# Several processes append to one log: no record is lost or torn.
. "$(dirname "$0")/lib.sh"
if [ "$phase" = run ]; then
  for who in $(seq 6); do
    (for turn in $(seq 400); do printf 'process %d record %04d %0*d\n' "$who" "$turn" $((turn % 90 + 1)) 0 >>"$dir/log"; done) &
  done
  wait
fi
[ "$(wc -l <"$dir/log")" = 2400 ] || fail "$(wc -l <"$dir/log") records instead of 2400"
! grep -Evn '^process [1-6] record [0-9]{4} 0+$' "$dir/log" || fail 'a record is torn'
[ "$(cut -d ' ' -f 2,4 "$dir/log" | sort -u | wc -l)" = 2400 ] || fail 'a record is there twice'
