#!/usr/bin/env bash
# fio writes, reads back and verifies its checksums: buffered and direct, sequential and random, several jobs at once.
. "$(dirname "$0")/lib.sh"
common=(--verify_state_save=0 --directory="$dir" --size=24m --verify=crc32c --verify_fatal=1 --group_reporting --minimal --randseed=7)
if [ "$phase" = run ]; then
  fio "${common[@]}" --name=seq --rw=write --bs=1m --numjobs=2 --ioengine=psync >/dev/null
  fio "${common[@]}" --name=rand --rw=randwrite --bs=4k --numjobs=2 --ioengine=psync --fsync=64 >/dev/null
  fio "${common[@]}" --name=direct --rw=randwrite --bs=16k --direct=1 --ioengine=libaio --iodepth=16 >/dev/null
  fio "${common[@]}" --name=odd --rw=randwrite --bsrange=512-70k --bs_unaligned=1 --ioengine=psync >/dev/null
  fio "${common[@]}" --name=mixed --rw=randrw --bs=8k --numjobs=2 --ioengine=libaio --iodepth=4 >/dev/null
else
  fio "${common[@]}" --name=seq --rw=read --bs=1m --numjobs=2 --ioengine=psync --verify_only >/dev/null
  fio "${common[@]}" --name=direct --rw=randwrite --bs=16k --direct=1 --ioengine=libaio --iodepth=16 --verify_only >/dev/null
fi
