#!/usr/bin/env bash
# A repository with a history is cloned, checked, repacked, changed and checked out through the mount.
. "$(dirname "$0")/lib.sh"
export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org

make_origin() {
  git init -q -b main "$scratch/origin"
  cd "$scratch/origin"
  for commit in $(seq 12); do
    for folder in $(seq 10); do
      mkdir -p "d$folder"
      for file in $(seq 15); do printf 'commit %s of %s in %s\n' "$commit" "$file" "$folder" >>"d$folder/f$file"; done
    done
    head -c 200000 /dev/urandom >"large-$commit"
    git add -A && git commit -q -m "commit $commit"
  done
  git branch old HEAD~6
}

if [ "$phase" = run ]; then
  make_origin
  git clone -q "file://$scratch/origin" "$dir/clone"
  cd "$dir/clone"
  git fsck --strict --no-dangling
  git checkout -q -b old origin/old && [ -z "$(git status --porcelain)" ] || fail 'the old branch is not clean'
  git checkout -q main && [ -z "$(git status --porcelain)" ] || fail 'main is not clean'
  echo change >>d1/f1 && git commit -q -a -m change
  git gc -q --prune=now
  git worktree add -q "$dir/worktree" old
fi
cd "$dir/clone"
git fsck --strict --no-dangling
[ -z "$(git status --porcelain)" ] || fail 'the clone is not clean'
git -C "$dir/worktree" diff --quiet old || fail 'the worktree differs'
[ "$(git rev-parse main~1)" = "$(git -C "$scratch/origin" rev-parse main)" ] || fail 'the history differs'
