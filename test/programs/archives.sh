#!/usr/bin/env bash
# tar, rsync -aHAX and cp -a carry a tree with everything that a tree can have to the mount and back.
. "$(dirname "$0")/lib.sh"

make_tree() {
  mkdir -p "$1/empty" "$1/deep/er/est" "$1/shut" && cd "$1"
  head -c 3000000 /dev/urandom >big && echo small >small && : >none
  printf 'x' >"deep/$(printf 'n%.0s' {1..250})"
  printf 'x' >$'deep/odd \n\t\\ \xff name'
  truncate -s 40M sparse && printf 'in the middle' | dd of=sparse bs=1 seek=20000000 conv=notrunc status=none
  ln small deep/hard && ln small deep/er/hard && ln -s ../small deep/soft && ln -s nowhere dangling
  ln -s "$(printf 't%.0s' {1..1000})" long-link
  mkfifo deep/fifo
  chmod 4755 big && chmod 2710 empty && chmod 1777 deep && chmod 0400 none
  setfattr -n user.name -v "$(printf 'v%.0s' {1..3000})" small && setfattr -n user.d -v 1 deep
  [ "$(id -u)" -ne 0 ] || chown -h 1234:4321 small dangling empty
  # rsync takes times within one second for the same: nothing may be as young as its copy.
  find . -depth -print0 | xargs -0 touch -h -d '2011-11-11 11:11:11.111111111'
  touch -h -d '2001-02-03 04:05:06.123456789' big dangling small
  touch -d '1969-12-31 23:00:00.5' none
  touch -d '2030-01-01 00:00:00.000000001' deep/er/est
  chmod 0000 shut && touch -d '2002-02-02 02:02:02.2' shut
}

if [ "$phase" = run ]; then
  make_tree "$scratch/tree"
  rsync -aHAX --sparse "$scratch/tree/" "$dir/rsync/"
  tar --xattrs --xattrs-include='*' -C "$scratch/tree" -cf "$dir/tree.tar" .
  mkdir "$dir/tar" && tar --xattrs --xattrs-include='*' -C "$dir/tar" -xpf "$dir/tree.tar"
  cp -a --sparse=always --reflink=auto "$scratch/tree" "$dir/cp"
  cp -a --reflink=auto "$dir/cp" "$dir/copy-inside"
  [ -z "$(rsync -aHAXni --delete "$scratch/tree/" "$dir/rsync/")" ] || fail 'rsync would transfer something again'
fi
for copy in rsync tar cp copy-inside; do same "$scratch/tree" "$dir/$copy"; done
cmp "$dir/tree.tar" <(cat "$dir/tree.tar")
[ "$(du -k "$dir/cp/sparse" | cut -f 1)" -lt 10000 ] || fail 'the hole takes space'
if [ "$phase" = again ]; then
  cp -a --sparse=always "$dir/rsync" "$scratch/back"
  same "$scratch/tree" "$scratch/back"
fi
