#!/usr/bin/env bash
# `npm test`: every stage in turn, with its time. A stage that fails does not keep later ones from telling what they know,
# but the run fails; without a setup nothing else can run.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

manifest=native/Cargo.toml
failed=()
times=()

# stage NAME COMMAND...: runs the command and remembers how it ended.
stage() {
  local name=$1 start=$SECONDS status=0
  shift
  printf '\n=== %s\n' "$name"
  "$@" || status=$?
  times+=("$(printf '%5d s  status %-3d %s' "$((SECONDS - start))" "$status" "$name")")
  [ "$status" -eq 0 ] || failed+=("$name")
  return "$status"
}

# What loom replaces is compiled otherwise, so it has a target directory of its own.
loom_models() {
  local loom=(--manifest-path "$manifest" --target-dir native/target/loom --release --locked --quiet --lib)
  RUSTFLAGS='--cfg loom' cargo test "${loom[@]}" -p millrace-core ring &&
    RUSTFLAGS='--cfg loom' cargo test "${loom[@]}" -p millrace-store kept
}

summary() {
  printf '\n=== npm test: %d s\n' "$SECONDS"
  printf '%s\n' "${times[@]}"
  [ ${#failed[@]} -eq 0 ] && return 0
  printf 'failed: %s\n' "${failed[@]}" >&2
  return 1
}

stage 'setup' bash bin/setup.sh --tests --demo || { summary; exit 1; }
stage 'layout is fresh' npm run --silent check:layout
stage 'Rust tests' cargo test --manifest-path "$manifest" --locked --quiet
stage 'models of the ring and of collections (loom)' loom_models
stage 'TypeScript and mount tests' node dist/test/run.js
stage 'fuzz, 20 s' node dist/test/fuzz/run.js --seconds 20
stage 'pjdfstest' node dist/test/posix/pjdfstest.js
stage 'fsx' node dist/test/posix/fsx.js
# The families whose calls a front translates; the rest is the same engine.
stage 'mount tests over fuse-native' node dist/test/run.js --front fuse-native \
  mount/append mount/attributes mount/create mount/links mount/rename mount/xattrs mount/statfs mount/thread-death mount/full-disk
# What was acknowledged is there after a kill at every named point, on a disk, in memory, with the store failing, with the power gone.
stage 'crash matrix' node dist/test/crash/matrix.js
stage 'demo' node dist/bin/demo.js --small --clean
summary
