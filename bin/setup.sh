#!/usr/bin/env bash
# Makes this checkout ready to use: system packages, npm packages, the Rust addon, the compiled TypeScript, the load generator.
# Does only what is missing or older than its sources; says each thing it does in one line.
#
#   bin/setup.sh [--tests] [--bench] [--demo]
#     --tests  also what the tests use: python3-torch, the programs that test/programs runs, and the suites of test/posix from
#              crates.io (in ${XDG_CACHE_HOME:-~/.cache}/millrace/suites)
#     --bench  also the peers of the benchmark (gocryptfs, rclone)
#     --demo   also the demo's Python environment in .setup/venv
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stamps=.setup/stamps
say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

want_tests= want_bench= want_demo=
for word in "$@"; do
  case "$word" in
    --tests) want_tests=yes ;;
    --bench) want_bench=yes ;;
    --demo) want_demo=yes ;;
    *) die "unknown word $word; known are --tests, --bench, --demo" ;;
  esac
done

# --- Debian packages ---------------------------------------------------------------------------------------------------

missing_packages() {
  local package
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || echo "$package"
  done
}

# install PACKAGE...: as root, or through sudo where it asks for no password.
install() {
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || return 1
    as_root=(sudo -n)
  fi
  say "installing $*"
  "${as_root[@]}" apt-get update -qq || say 'apt-get update failed; trying with the lists that are there'
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

packages() {
  command -v dpkg-query >/dev/null || { say 'not a Debian system: install fuse3, a C compiler and python3 with venv yourself'; return 0; }
  local missing wished=() by_hand='as root: apt-get install --no-install-recommends'
  mapfile -t missing < <(missing_packages fuse3 build-essential python3 python3-venv attr)
  [ ${#missing[@]} -eq 0 ] || install "${missing[@]}" || die "packages are missing; $by_hand ${missing[*]}"

  # What only some tests or some rows of the benchmark use does not stop the rest.
  [ -z "$want_tests" ] || wished+=(python3-torch dbench fio git libacl1-dev rsync sqlite3 stress-ng vim-tiny)
  [ -z "$want_bench" ] || wished+=(gocryptfs rclone)
  [ ${#wished[@]} -gt 0 ] || return 0
  mapfile -t missing < <(missing_packages "${wished[@]}")
  [ ${#missing[@]} -eq 0 ] || install "${missing[@]}" || say "going on without ${missing[*]}; $by_hand ${missing[*]}"
}

# --- Builds, each guarded by a hash of what it is made from ------------------------------------------------------------

# hash PATH...: of names and contents of every source file below, build outputs left out.
hash() {
  find "$@" \( -name target -o -name node_modules -o -name addon \) -prune -o -type f -print0 \
    | sort -z | xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1
}

# step NAME OUTPUT SOURCE... -- COMMAND...: runs the command unless the output is there and the sources are as they were then.
step() {
  local name=$1 output=$2 sources=() stamp now
  shift 2
  while [ "$1" != -- ]; do sources+=("$1"); shift; done
  shift
  stamp=$stamps/$name
  now=$(hash "${sources[@]}")
  if compgen -G "$output" >/dev/null && [ "$(cat "$stamp" 2>/dev/null)" = "$now" ]; then return 0; fi
  say "$name"
  "$@"
  compgen -G "$output" >/dev/null || die "$name made no $output"
  mkdir -p "$stamps"
  printf '%s\n' "$now" >"$stamp"
}

compile_load() {
  mkdir -p dist/bench/load
  local program
  for program in load constant; do
    cc -O2 -Wall -Wextra -o "dist/bench/load/$program" "bench/load/$program.c" -lpthread
  done
}

# A lockfile made where the registry has no builds for other platforms lacks their entries, and `npm ci` refuses it;
# `npm install --no-save` then takes the same versions from it and leaves it as it is.
npm_packages() {
  local quiet=(--no-audit --no-fund --loglevel=error)
  npm ci "${quiet[@]}" >/dev/null 2>&1 || npm install --no-save "${quiet[@]}"
}

# What an earlier compile left of sources that are gone must not run any more.
compile_typescript() {
  [ ! -d dist ] || find dist -name '*.js' -delete -o -name '*.d.ts' -delete -o -name '*.map' -delete
  npm run --silent build:ts
}

python_environment() {
  local python=python3
  [ ! -x /usr/bin/python3 ] || python=/usr/bin/python3
  "$python" -m venv .setup/venv
  .setup/venv/bin/pip install --quiet --disable-pip-version-check -r bin/demo/requirements.txt
}

# suite NAME VERSION: a suite of others for the tests, outside of the repository so that every checkout finds it.
suite() {
  local root=${XDG_CACHE_HOME:-$HOME/.cache}/millrace/suites target
  ! "$root/bin/$1" --version 2>/dev/null | grep -qxF "$1 $2" || return 0
  say "suite $1 $2"
  target=$(mktemp -d)
  CARGO_TARGET_DIR=$target cargo install --quiet --locked --force --root "$root" "$1@$2" \
    || say "going on without $1, whose stage of the tests will fail"
  rm -rf "$target"
}

command -v node >/dev/null || die 'node is missing: install Node 20 or newer'
command -v cargo >/dev/null || die 'cargo is missing: install Rust, see https://rustup.rs'
node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' || die "Node $(node --version) is too old: install Node 20 or newer"

packages
step 'npm packages' node_modules/.package-lock.json package-lock.json -- npm_packages
step 'Rust addon' 'native/addon/*.node' native package.json -- npm run --silent build:native
step 'TypeScript' dist/bin/main.js engine workers bin bench test tsconfig.json package-lock.json -- compile_typescript
step 'load generators' dist/bench/load/constant bench/load -- compile_load
if [ -n "$want_tests" ]; then
  suite pjdfstest 0.2.2
  suite fsx 0.3.2
fi
[ -z "$want_demo" ] || step 'Python environment of the demo' .setup/venv/bin/python bin/demo/requirements.txt -- python_environment

if [ -e /dev/fuse ] && [ "$(id -u)" -eq 0 ] && [ "$(stat -c %a /dev/fuse)" = 600 ]; then
  say 'hint: /dev/fuse is for root alone here; chmod 666 /dev/fuse lets other users mount'
fi
