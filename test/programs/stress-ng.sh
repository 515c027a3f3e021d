#!/usr/bin/env bash
# The file system stressors of stress-ng with their own checks, eight at a time.
. "$(dirname "$0")/lib.sh"
[ "$phase" = run ] || exit 0
# Left out: what is not about the file system it runs in, and what FUSE does not have (verity).
stressors=(access chattr chdir chmod chown copy-file dentry dir
  dirdeep dirmany dup fallocate fcntl fiemap file-ioctl filename
  flock fpunch fstat getdent handle hdd inode-flags inotify
  iomix lease link locka lockf lockofd mknod open
  rename revio seek sendfile symlink sync-file touch utime xattr)
for ((first = 0; first < ${#stressors[@]}; first += 8)); do
  group=()
  for stressor in "${stressors[@]:first:8}"; do group+=("--$stressor" 1); done
  stress-ng --temp-path "$dir" --verify --timeout "${MILLRACE_STRESS_SECONDS:-2}s" --oomable "${group[@]}" \
    >"$scratch/stress.log" 2>&1 && continue
  status=$?
  # A stressor that cannot run here says so itself, and ends with 3 or 4.
  if [ "$status" -eq 3 ] || [ "$status" -eq 4 ]; then grep -E 'skip|not' "$scratch/stress.log" || true; continue; fi
  cat "$scratch/stress.log"
  fail "one of ${group[*]} ended with $status"
done
[ -z "$(ls -A "$dir")" ] || { ls -A "$dir"; fail 'something was left behind'; }
