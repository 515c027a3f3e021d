#!/usr/bin/env bash
# vim saves by writing a new file and renaming it; the old one stays as a backup.
. "$(dirname "$0")/lib.sh"
if [ "$phase" = run ]; then
  printf 'first\n' >"$dir/text"
  chmod 640 "$dir/text"
  editor=$(command -v vim || command -v vim.tiny)
  for turn in $(seq 20); do
    "$editor" -u NONE -N -es -c 'set backup backupskip= backupcopy=no writebackup backupext=.old' -c "normal Goline $turn" -c wq "$dir/text"
  done
fi
[ "$(wc -l <"$dir/text")" = 21 ] && [ "$(tail -1 "$dir/text")" = 'line 20' ] || fail 'lines are missing'
[ "$(wc -l <"$dir/text.old")" = 20 ] || fail 'the backup is wrong'
[ "$(stat -c %a "$dir/text")" = 640 ] || fail 'the mode changed'
[ "$(ls -A "$dir" | wc -l)" = 2 ] || fail 'something was left behind'
